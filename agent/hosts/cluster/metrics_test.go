package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

const metricsExample = "../../../examples/metrics"

// Debian's own promtool accepts the rules, and each alert comes and goes as it should.
func TestAlertRulesHold(t *testing.T) {
	agenttest.Need(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}, {"check", "config", "prometheus.yml"}} {
		args[len(args)-1] = filepath.Join(metricsExample, args[len(args)-1])
		if r := agenttest.Run("", append([]string{"promtool"}, args...)...); r.Code != 0 {
			t.Errorf("%s", r)
		}
	}
	for _, a := range alerts(t) {
		if a.Annotations["runbook"] == "" || a.Annotations["summary"] == "" {
			t.Errorf("%s does not say what to type", a.Name)
		}
	}
}

// Every expression of the dashboard and the alerts has data, with a Prometheus that
// scrapes three live agents as the example says. No resolver answers here: the time that
// one takes is no number then, and a line all the same.
func TestDashboardAndAlertsHaveData(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "prometheus", "promtool", "curl")
	l := agenttest.NewLab(t, agenttest.Config{})
	for _, h := range l.Hosts {
		h.More = []string{"--metrics-listen", h.Addr.String() + ":9798", "--dns-upstreams", agenttest.InternetAddr.String()}
		h.Launch()
	}
	for _, h := range l.Hosts {
		h.AwaitAPI()
	}
	l.Host(1).Init()
	for _, h := range l.Hosts[1:] {
		h.Join(l.Host(1))
	}
	l.Host(1).CreateNetwork("blue")
	for _, h := range l.Hosts {
		sandbox, _ := h.Endpoint("blue", "web-"+h.Name)
		if _, err := sandbox.Getent("web-h1.blue"); err != nil {
			t.Error(err)
		}
		passing, _ := h.Endpoint("blue", "gone-"+h.Name)
		passing.Detach("blue", "gone-"+h.Name)
	}
	p := startPrometheus(t, l)
	var wanted []string
	wanted = append(wanted, panels(t)...)
	for _, a := range alerts(t) {
		wanted = append(wanted, sides(a.Query)...)
	}
	if len(wanted) < 50 {
		t.Fatalf("%d expressions: this test would see little", len(wanted))
	}
	for _, expr := range wanted {
		if _, err := agenttest.Await(30*time.Second, func() error { return p.hasData(expr) }); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
	l.Host(3).Kill()
	for _, expr := range []string{`up{job="weft"} == 0`, `max by (job) (weft_members{state="dead"}) > 0 or max by (job) (weft_members{state="agent-down"}) > 0`} {
		agenttest.Eventually(t, 60*time.Second, "an agent that ended is alerted about: "+expr, func() error { return p.hasData(expr) })
	}
}

// prometheus is one in the namespace of host 1.
type prometheus struct{ at agenttest.Netns }

func startPrometheus(t *testing.T, l *agenttest.Lab) prometheus {
	t.Helper()
	conf, err := os.ReadFile(filepath.Join(metricsExample, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs(filepath.Join(metricsExample, "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("scrape_interval: 15s", "scrape_interval: 1s", "evaluation_interval: 15s", "evaluation_interval: 1s", "- rules.yml", "- "+rules).Replace(string(conf))
	file := filepath.Join(l.Dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h := l.Host(1)
	(&agenttest.Sandbox{Host: h, NS: h.NS}).Background("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(l.Dir, "tsdb"),
		"--web.listen-address=127.0.0.1:9090", "--log.level=warn")
	p := prometheus{h.NS}
	agenttest.Eventually(t, 60*time.Second, "Prometheus has scraped every host", func() error {
		v, err := p.ask(`sum(up{job="weft"})`)
		if err == nil && (len(v) != 1 || v[0] != "3") {
			err = fmt.Errorf("up are %q", v)
		}
		return err
	})
	return p
}

// ask returns the values of an expression now.
func (p prometheus) ask(expr string) (values []string, err error) {
	r := p.at.Run("curl", "-sS", "-m", "10", "--data-urlencode", "query="+expr, "http://127.0.0.1:9090/api/v1/query")
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Value [2]any
			}
		}
	}
	if r.Code != 0 {
		return nil, errors.New(r.String())
	}
	if err := json.Unmarshal([]byte(r.Stdout), &answer); err != nil || answer.Status != "success" {
		return nil, fmt.Errorf("%w: %s", errors.Join(err, errors.New(answer.Error)), r.Stdout)
	}
	for _, one := range answer.Data.Result {
		values = append(values, fmt.Sprint(one.Value[1]))
	}
	return values, nil
}

func (p prometheus) hasData(expr string) error {
	v, err := p.ask(expr)
	if err == nil && len(v) == 0 {
		err = errors.New("no data")
	}
	return err
}

// panels are the expressions of the dashboard, as Grafana would ask.
func panels(t *testing.T) (all []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(metricsExample, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Type, Title, Description string
			Targets                  []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$instance", ".*", "$__rate_interval", "15s", "$__range", "1m")
	for _, p := range d.Panels {
		if p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("panel %q says nothing", p.Title)
		}
		for _, target := range p.Targets {
			all = append(all, fill.Replace(target.Expr))
		}
	}
	return all
}

type alert struct {
	Name, Query string
	Annotations map[string]string
}

// alerts are those of rules.yml.
func alerts(t *testing.T) (all []alert) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(metricsExample, "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case key == "- alert":
			all = append(all, alert{Name: value, Annotations: map[string]string{}})
		case len(all) == 0:
		case key == "expr":
			all[len(all)-1].Query = value
		case key == "summary", key == "runbook":
			all[len(all)-1].Annotations[key] = strings.Trim(value, `"`)
		}
	}
	if len(all) < 10 {
		t.Fatalf("%d alerts", len(all))
	}
	return all
}

var comparison = regexp.MustCompile(`\s(==|>)\s[0-9.]+$`)

// sides are what an alert compares: on a cluster that is well they have data while the
// alert has none.
func sides(query string) (all []string) {
	for side := range strings.SplitSeq(query, " or ") {
		side = strings.NewReplacer("[10m]", "[1m]").Replace(side)
		all = append(all, comparison.ReplaceAllString(side, ""))
	}
	return all
}
