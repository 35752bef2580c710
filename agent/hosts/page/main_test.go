package page_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestMain(m *testing.M) {
	defer func() {
		if browser.stop != nil {
			browser.stop()
		}
	}()
	agenttest.Main(m)
}

// browser is the one of the package: starting it takes seconds.
var browser struct {
	once sync.Once
	ctx  context.Context
	err  error
	stop func()
}

// ScreenshotsEnv names a directory for pictures of what the tests saw; without it none
// are made.
const ScreenshotsEnv = "WEFT_SCREENSHOTS"

// tab is one tab of the browser, with what went wrong in it.
type tab struct {
	t      *testing.T
	ctx    context.Context
	origin string

	mu       sync.Mutex // guards what follows
	problems []string
	requests int
	away     bool // the agent is: that calls fail is no problem
}

// size is that of a window, and how many pixels of a picture one of it has.
type size struct {
	width, height int64
	scale         float64
}

var (
	wide   = size{1240, 860, 1}
	narrow = size{360, 740, 1}
	poster = size{1120, 760, 2} // README's
)

// open opens a link in a tab of its own. What the page logs as an error, or asks of
// another origin, fails the test.
func open(t *testing.T, link string, s size) *tab {
	t.Helper()
	agenttest.Need(t, "chromium")
	browser.once.Do(func() {
		options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath("chromium"),
			chromedp.NoSandbox, // the tests are root's
			chromedp.Flag("force-color-profile", "srgb"), chromedp.WSURLReadTimeout(time.Minute))
		all, stopAll := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, stop := chromedp.NewContext(all)
		browser.ctx, browser.err = ctx, chromedp.Run(ctx)
		browser.stop = func() { stop(); stopAll() }
	})
	if browser.err != nil {
		t.Fatalf("chromium: %v", browser.err)
	}
	// Its first tab is the only one in front: what is hidden paints nothing.
	ctx, cancel := context.WithTimeout(browser.ctx, 4*time.Minute)
	origin, _, _ := strings.Cut(strings.TrimPrefix(link, "http://"), "/")
	b := &tab{t: t, ctx: ctx, origin: "http://" + origin + "/"}
	t.Cleanup(func() {
		if err := chromedp.Run(ctx, chromedp.Navigate("about:blank")); err != nil {
			t.Errorf("leave the page: %v", err)
		}
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Errorf("the browser says: %s", p)
		}
		if b.requests < 5 {
			t.Errorf("%d requests: this test would see nothing", b.requests)
		}
	})
	chromedp.ListenTarget(ctx, b.hear)
	b.run("open "+b.origin, network.Enable(), log.Enable(), runtime.Enable(),
		emulation.SetDeviceMetricsOverride(s.width, s.height, s.scale, false), chromedp.ActionFunc(func(ctx context.Context) error {
			_, err := cdppage.AddScriptToEvaluateOnNewDocument(shownScript).Do(ctx)
			return err
		}), chromedp.Navigate(link))
	b.until("the page is there", `!!document.querySelector("main h1")`)
	return b
}

// shownScript notes when the map had been painted with all its hosts.
const shownScript = `new MutationObserver((_, o) => {
	if (!document.querySelector(".host, .grid li")) return;
	o.disconnect();
	requestAnimationFrame(() => setTimeout(() => { window.shownAt = performance.now(); }));
}).observe(document, {childList: true, subtree: true});`

// hear notes what the browser says.
func (b *tab) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.requests++
		if !strings.HasPrefix(e.Request.URL, b.origin) && e.Request.URL != "about:blank" {
			b.problems = append(b.problems, "a request to "+e.Request.URL)
		}
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			b.problems = append(b.problems, fmt.Sprintf("console: %s", e.Args[0].Value))
		}
	case *log.EventEntryAdded:
		if failed := strings.HasPrefix(e.Entry.Text, "Failed to load resource"); failed && b.away {
			return
		}
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			b.problems = append(b.problems, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

// agentIsAway says whether calls may fail from now on.
func (b *tab) agentIsAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

func (b *tab) run(what string, actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// look is the value of an expression in the page; an error where the tab goes to another
// page at that moment.
func look[T any](b *tab, expression string) (v T, err error) {
	err = chromedp.Run(b.ctx, chromedp.Evaluate(expression, &v))
	return v, err
}

// js is look where the page stays.
func js[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := look[T](b, expression)
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits until an expression is true.
func (b *tab) until(what, expression string) time.Duration {
	b.t.Helper()
	return agenttest.Eventually(b.t, 30*time.Second, what, func() error {
		ok, err := look[bool](b, expression)
		if ok && err == nil {
			return nil
		}
		time.Sleep(30 * time.Millisecond)
		text, _ := look[string](b, `document.body?.innerText ?? ""`)
		return fmt.Errorf("%s: %v, and the page says: %.400s", expression, err, strings.Join(strings.Fields(text), " "))
	})
}

// text is what a person reads in the first of what a selector finds.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return js[string](b, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
}

// view goes to a view by its link, and waits for its heading.
func (b *tab) view(hash, heading string) {
	b.t.Helper()
	b.run("go to "+hash, chromedp.Evaluate(fmt.Sprintf(`location.hash = %q`, hash), nil))
	b.until("the view "+hash, fmt.Sprintf(`document.querySelector("main h1")?.innerText === %q`, heading))
}

// says waits until the view has all the words.
func (b *tab) says(words ...string) {
	b.t.Helper()
	agenttest.Eventually(b.t, 20*time.Second, fmt.Sprintf("the page says %q", words), func() error {
		text := strings.Join(strings.Fields(b.text("main")), " ")
		for _, w := range words {
			if !strings.Contains(text, strings.Join(strings.Fields(w), " ")) {
				time.Sleep(30 * time.Millisecond)
				return fmt.Errorf("%q is not in %q", w, text)
			}
		}
		return nil
	})
}

// fits checks that the page is no wider than the window.
func (b *tab) fits(what string) {
	b.t.Helper()
	if over := js[int](b, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
		b.t.Errorf("%s: %d pixels wider than the window: %s", what, over, js[string](b, `[...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll")).slice(0, 5).map(e => e.tagName + "." + e.getAttribute("class")).join(", ")`))
	}
}

// named checks that whoever hears the page knows what each thing is that can be used.
func (b *tab) named(what string) {
	b.t.Helper()
	b.run("accessibility", chromedp.ActionFunc(func(ctx context.Context) error {
		nodes, err := accessibility.GetFullAXTree().Do(ctx)
		used := 0
		for _, n := range nodes {
			if n.Ignored || n.Role == nil || !slices.Contains([]string{`"link"`, `"button"`, `"textbox"`, `"searchbox"`, `"combobox"`, `"spinbutton"`}, string(n.Role.Value)) {
				continue
			}
			if used++; n.Name == nil || len(n.Name.Value) <= len(`""`) {
				b.t.Errorf("%s: a %s has no name", what, n.Role.Value)
			}
		}
		if err == nil && used < 8 {
			err = fmt.Errorf("%d things that can be used: this test would see nothing", used)
		}
		return err
	}))
}

// shoot keeps a picture of the tab, where somebody wants one.
func (b *tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv(ScreenshotsEnv)
	if dir == "" {
		return
	}
	var png []byte
	b.run("screenshot", chromedp.Sleep(400*time.Millisecond), chromedp.CaptureScreenshot(&png))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// dress has the window another size, and the page dark or light.
func (b *tab) dress(s size, scheme string) {
	b.t.Helper()
	b.run("dress", emulation.SetDeviceMetricsOverride(s.width, s.height, s.scale, false),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
}

// ui runs agentctl ui for a host's agent, and returns its link.
func ui(t *testing.T, h *agenttest.Host) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(agenttest.Programs(t), "agentctl"), "--socket", h.Socket(), "ui", "--no-open")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("agentctl ui, interrupted: %v", err)
		}
	})
	line := make([]byte, 256)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(line[:n]))
}

// click clicks the first of what a selector finds in the view.
func click(selector string) chromedp.Action {
	return chromedp.Click("main "+selector, chromedp.ByQuery)
}
