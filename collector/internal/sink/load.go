package sink

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/nearest"
)

// Config is the sinks of a folder.
type Config struct {
	Sinks []Settings
	// Problem is what is wrong with some of the files: it is said. Those sinks go on as they
	// were, or keep what is for them until their files are right.
	Problem error

	// Unread says that the folder could not be read: Reload leaves all sinks as they are.
	Unread bool
}

// Load reads the sinks' files in dir, each NAME.conf, in the order of their names. As in
// plugins.d, hidden files and those with more than one dot in the name are skipped. "" is
// no folder, and no sinks. what are the names that alerts have.
func Load(dir string, what Names) Config {
	var c Config
	if dir == "" {
		return c
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		c.Problem, c.Unread = fmt.Errorf("alert_sinks: %w: make the folder, or take the key out", err), true
		return c
	}
	var wrong []error
	for _, e := range entries {
		name, isConf := strings.CutSuffix(e.Name(), ".conf")
		if e.IsDir() || strings.HasPrefix(name, ".") || !isConf || strings.Contains(name, ".") {
			continue
		}
		s, err := loadOne(filepath.Join(dir, e.Name()), &what)
		if err != nil {
			wrong = append(wrong, err)
		}
		if s.Active {
			c.Sinks = append(c.Sinks, s)
		}
	}
	c.Problem = errors.Join(wrong...)
	return c
}

// loadOne reads a sink's file. With an error, the settings name the sink and the error.
func loadOne(file string, what *Names) (Settings, error) {
	var s Settings
	table := s.Table()
	table.Defaults()
	s.Name = strings.TrimSuffix(filepath.Base(file), ".conf")
	f, err := conf.LoadLinked(file, table.Schema())
	if f != nil {
		err = s.validate(f, what)
	}
	if err == nil {
		return s, nil
	}
	broken := Settings{}
	broken.Table().Defaults()
	broken.Name, broken.Active, broken.wrong = s.Name, true, err
	return broken, err
}

// validate checks what concerns several keys, and returns all errors of f.
func (s *Settings) validate(f *conf.File, what *Names) error {
	if strings.ContainsFunc(s.Name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) || len(s.Name) > 64 || s.Name == "" {
		f.Errorf("", "the name of a sink's file is of at most 64 letters, digits, - and _, and .conf")
	}
	if s.Type == "" {
		f.Errorf("type", "is missing: want alertmanager, webhook, mail, exec or syslog")
		return f.Err()
	}
	for key, kinds := range onlyOf {
		if f.Has(key) && !slices.Contains(kinds, s.Type) {
			f.Errorf(key, "has no meaning for type = %s: take it out", s.Type)
		}
	}
	s.validateChoice(f, what)
	for _, p := range s.patterns() {
		if _, err := path.Match(p, ""); err != nil {
			f.Errorf("match", "%q is no pattern: close each [", p)
		}
	}
	if (s.Cert == "") != (s.Key == "") {
		f.Errorf("cert", "cert and key belong together: give both")
	}
	if (s.User == "") != (s.PasswordFile == "") {
		f.Errorf("user", "user and password_file belong together: give both")
	}
	switch s.Type {
	case kindAlertmanager, kindWebhook:
		s.validateURL(f)
	case kindMail:
		s.validateMail(f)
	case kindExec:
		if s.Program == "" {
			f.Errorf("program", "is missing: name the program that gets the alerts")
		} else if err := conf.Executable(s.Program); err != nil {
			f.Errorf("program", "%v", err)
		}
	case kindSyslog:
		s.validateSyslog(f)
	}
	return f.Err()
}

// Names are what alerts may have, so that a sink that waits for a mistyped one is noticed.
type Names struct{ Conditions, Labels []string }

// validateChoice checks which alerts are chosen.
func (s *Settings) validateChoice(f *conf.File, what *Names) {
	for _, p := range s.Conditions {
		if !slices.ContainsFunc(what.Conditions, func(name string) bool { return matches(p, name) }) {
			f.Errorf("conditions", "%q is no condition%s (they are %s)", p, nearest.Hint(p, what.Conditions), strings.Join(what.Conditions, ", "))
		}
	}
	for _, m := range s.Match {
		label, _, ok := strings.Cut(m, "=")
		switch {
		case !ok || label == "":
			f.Errorf("match", "%q: want LABEL=PATTERN, such as host=db*", m)
		case !slices.Contains(what.Labels, label):
			f.Errorf("match", "%q: no alert has the label %s (they are %s)", m, label, strings.Join(what.Labels, ", "))
		}
	}
}

// patterns are those of conditions and labels.
func (s *Settings) patterns() (all []string) {
	all = slices.Clone(s.Conditions)
	for _, m := range s.Match {
		_, p, _ := strings.Cut(m, "=")
		all = append(all, p)
	}
	return all
}

func (s *Settings) validateURL(f *conf.File) {
	u, err := url.Parse(s.URL)
	switch {
	case s.URL == "":
		f.Errorf("url", "is missing: say where to send")
		return
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		f.Errorf("url", "want http://HOST:PORT/… or https://HOST:PORT/…")
		return
	case u.User != nil:
		f.Errorf("url", "has a user or password in it: use user and password_file, or token_file")
	case u.Fragment != "":
		f.Errorf("url", "has a # in it, and what is behind it is never sent")
	case s.Type == kindAlertmanager && (strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/alerts") || u.RawQuery != ""):
		f.Errorf("url", "want the Alertmanager's address alone: /api/v2/alerts is added to it")
	case u.Scheme == "http" && (s.TokenFile != "" || s.PasswordFile != "") && !local(u.Hostname()):
		f.Errorf("url", "is in clear text, and a password or token would be: use https://")
	case u.Scheme == "http" && (s.CA != "" || s.Cert != ""):
		f.Errorf("url", "is in clear text, without certificates: use https://, or take ca, cert and key out")
	}
	if s.TokenFile != "" && s.PasswordFile != "" {
		f.Errorf("token_file", "give either a token or a password")
	}
	if s.Type == kindWebhook && s.SecretFile == "" {
		f.Errorf("secret_file", "is missing: make one with (umask 077; openssl rand -base64 32 > FILE)")
	}
}

func (s *Settings) validateMail(f *conf.File) {
	if s.TLS == "" {
		s.TLS = tlsStart
	}
	s.validateServer(f, "mail.example.net:587")
	if host, _, err := net.SplitHostPort(s.Server); err == nil && s.TLS == tlsNone && !local(host) {
		f.Errorf("tls", "mail leaves this machine with TLS only: use starttls or yes")
	}
	if s.TLS == tlsNone && (s.CA != "" || s.Cert != "") {
		f.Errorf("tls", "no has no use for ca, cert and key: take them out, or use starttls or yes")
	}
	if len(s.To) == 0 {
		f.Errorf("to", "is missing: say who gets the mail")
	}
	if len(s.To) > 50 {
		f.Errorf("to", "has more than 50 recipients: use a mailing list")
	}
	if s.From == "" {
		f.Errorf("from", "is missing: say whose address the mail has")
	}
	for i, a := range append([]string{s.From}, s.To...) {
		key := "to"
		if i == 0 {
			key = "from"
		}
		if p, err := mail.ParseAddress(a); a != "" && (err != nil || p.Address != a) {
			f.Errorf(key, "%q is no mail address: want NAME@DOMAIN", a)
		}
	}
}

func (s *Settings) validateSyslog(f *conf.File) {
	if _, err := facilityOf(s.Facility); err != nil {
		f.Errorf("facility", "%v", err)
	}
	if s.Server == "" {
		for _, key := range []string{"tls", "ca", "cert"} {
			if f.Has(key) {
				f.Errorf(key, "has a meaning with server only: the host's own syslog is a socket")
			}
		}
		return
	}
	if s.TLS == "" {
		s.TLS = tlsImplicit
	}
	if s.TLS == tlsStart {
		f.Errorf("tls", "a syslog server has no starttls: want yes or no")
	}
	if f.Has("socket") {
		f.Errorf("socket", "give either server or socket")
	}
	if s.TLS == tlsNone && (s.CA != "" || s.Cert != "") {
		f.Errorf("tls", "no has no use for ca, cert and key: take them out, or use yes")
	}
	s.validateServer(f, "logs.example.net:6514")
}

func (s *Settings) validateServer(f *conf.File, example string) {
	if host, port, err := net.SplitHostPort(s.Server); err != nil || host == "" || port == "" {
		f.Errorf("server", "want HOST:PORT, such as %s", example)
	}
}

// local reports whether host is this machine by its very name, whatever a resolver says.
func local(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// takes reports whether a notice is for this sink. One whose file is wrong keeps all.
func (s *Settings) takes(n *Notice) bool {
	switch {
	case s.wrong != nil:
		return true
	case rank(n.Severity) < rank(s.Severity):
		return false
	case n.State == Resolved && !s.Resolved && s.Type != kindAlertmanager:
		return false
	case len(s.Conditions) > 0 && !slices.ContainsFunc(s.Conditions, func(p string) bool { return matches(p, n.Condition) }):
		return false
	}
	for _, m := range s.Match {
		label, pattern, _ := strings.Cut(m, "=")
		if !matches(pattern, n.Labels[label]) {
			return false
		}
	}
	return true
}

// matches is path.Match, with a slash like any other character.
func matches(pattern, text string) bool {
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(text, "/", "\x00"))
	return ok && err == nil
}
