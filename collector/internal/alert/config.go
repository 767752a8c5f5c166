package alert

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Config is what may be changed while the collector runs.
type Config struct {
	Settings [NumConditions]Setting
	// Ignore has patterns of hosts that no alert is about, or, as CONDITION:PATTERN, none of one
	// condition.
	Ignore    []string
	RulesFile string        // which rules are expected of which hosts; "" is none
	Every     time.Duration // how often conditions are looked at
	Group     time.Duration // how long what changes is gathered before it is told
	Repeat    time.Duration // how often what fires is told again; 0 is never
	Hold      time.Duration // how long something must not have happened again to be over
}

// DefaultConfig is the configuration when nothing is said.
func DefaultConfig() Config {
	c := Config{Every: 15 * time.Second, Group: time.Minute, Repeat: 12 * time.Hour, Hold: time.Hour}
	for i := range NumConditions {
		c.Settings[i] = i.Default()
	}
	return c
}

// rules are what Config says, ready to be looked up. They do not change.
type rules struct {
	Config
	ignore [NumConditions][]string
	expect []expectation
}

// expectation is a line of the file of expected rules.
type expectation struct{ hosts, hashes []string }

// maxRulesFile is the most of the file of expected rules that is read, in bytes.
const maxRulesFile = 16 << 20

// compile checks a configuration and reads its files.
func compile(c Config) (*rules, error) {
	def := DefaultConfig()
	if c.Every <= 0 {
		c = def
	}
	r := &rules{Config: c}
	for _, text := range c.Ignore {
		name, pattern, one := strings.Cut(text, ":")
		if cond, err := ByName(name); one && err == nil {
			r.ignore[cond] = append(r.ignore[cond], pattern)
			continue
		}
		if one && strings.Trim(name, "0123456789abcdefABCDEF*?[]") != "" { // else an address of IPv6, which has colons, too
			_, err := ByName(name)
			return nil, fmt.Errorf("alert_ignore: %.80q: %w", text, err)
		}
		for i := range r.ignore {
			r.ignore[i] = append(r.ignore[i], text)
		}
	}
	if c.RulesFile == "" {
		return r, nil
	}
	text, err := fsys.ReadTrusted(c.RulesFile, maxRulesFile)
	if err != nil {
		return nil, fmt.Errorf("alert_rules: %w", err)
	}
	if r.expect, err = parseExpected(c.RulesFile, string(text)); err != nil {
		return nil, fmt.Errorf("alert_rules: %w", err)
	}
	return r, nil
}

// parseExpected reads lines of hosts or patterns with commas between them, and the hashes of
// rules that are expected of these.
func parseExpected(path, text string) (list []expectation, err error) {
	var errs []error
	n := 0
	for l := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		l, _, _ = strings.Cut(l, "#")
		words := strings.FieldsFunc(l, func(r rune) bool { return strings.ContainsRune(" \t\r\n", r) })
		if len(words) == 0 {
			continue
		}
		x := expectation{hosts: strings.Split(words[0], ",")}
		for _, h := range strings.Split(strings.Join(words[1:], ","), ",") {
			h = strings.ToLower(h)
			if _, err := hex.DecodeString(h); err != nil || len(h) != 64 {
				errs = append(errs, fmt.Errorf("%s:%d: %.80q is no hash of rules: write HOST[,HOST…] HASH[,HASH…], 64 digits as `forwarder doctor --all` prints them (rules_hash)", path, n, h))
				break
			}
			x.hashes = append(x.hashes, h)
		}
		list = append(list, x)
	}
	if len(errs) == 0 && len(list) == 0 {
		return nil, fmt.Errorf("%s: it has no line HOSTS HASHES: leave alert_rules out to expect nothing", path)
	}
	return list, errors.Join(errs...)
}

// ignores reports whether a condition is not looked at for a host.
func (r *rules) ignores(c Condition, host string) bool {
	for _, p := range r.ignore[c] {
		if query.Like(p, host) {
			return true
		}
	}
	return false
}

// expected returns the hashes that the first line with the host has; false when none has it.
func (r *rules) expected(host string) ([]string, bool) {
	for i := range r.expect {
		for _, p := range r.expect[i].hosts {
			if query.Like(p, host) {
				return r.expect[i].hashes, true
			}
		}
	}
	return nil, false
}
