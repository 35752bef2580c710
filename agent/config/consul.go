package config

import (
	"fmt"
	"net/url"
	"strings"
)

// Consul reads the addresses of Consul, of which one or several are given with
// commas between, and returns them as they are kept; empty for none. A slash at the
// end is left out; a path is refused, since Consul's API is at the root.
func Consul(text string) (string, error) {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		clean, err := consulURL(part)
		if err != nil {
			return "", err
		}
		out = append(out, clean)
	}
	return strings.Join(out, ","), nil
}

func consulURL(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err == nil && u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return text, nil
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "", fmt.Errorf("%q is no URL such as http://192.0.2.10:8500", text)
	}
	plain := url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%q has something behind the host: Consul's API is at %s", text, plain.String())
	}
	return plain.String(), nil
}

// urls is one text, with commas between several, or a list of them.
type urls string

// UnmarshalYAML reads either form.
func (u *urls) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	err := unmarshal(&one)
	if err == nil {
		*u = urls(one)
		return nil
	}
	var many []string
	if unmarshal(&many) != nil {
		return err
	}
	*u = urls(strings.Join(many, ","))
	return nil
}
