package rules

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/option"
)

// Every word that is offered is taken in a rule of its own.
func TestWordsOfferedAreTaken(t *testing.T) {
	rule := func(opt, w string) []string {
		switch {
		case opt == "-p":
			return []string{"-w", "/etc", opt, w}
		case opt == "-S", opt == "-C":
			return []string{"-a", "always,exit", opt, w}
		case strings.HasPrefix(w, "msgtype="):
			return []string{"-a", "always,exclude", opt, w}
		case strings.HasPrefix(w, "fstype="):
			return []string{"-a", "never,filesystem", opt, w}
		case opt == "-F":
			return []string{"-a", "always,exit", opt, w}
		}
		return []string{opt, w}
	}
	for _, o := range OptionTable() {
		if o.Brief == "" {
			t.Errorf("%v: nothing says what it is for", o.Names)
		}
		if o.Words.List == nil {
			continue
		}
		words := o.Words.List(nil, "")
		for _, begun := range words {
			if strings.HasSuffix(begun, "=") {
				words = append(words, o.Words.List(nil, begun)...)
			}
		}
		if len(words) < 3 {
			t.Errorf("%v: %v", o.Names, words)
		}
		for _, w := range words {
			w, _, _ = strings.Cut(w, "\t")
			if strings.HasSuffix(w, "=") {
				continue
			}
			if _, err := ParseArgs(rule(o.Names[0], w), SystemEnv()); err != nil {
				t.Errorf("%s %s is offered: %v", o.Names[0], w, err)
			}
		}
	}
}

// What the table says takes a value does, and nothing else.
func TestTableIsWhatIsParsed(t *testing.T) {
	for _, o := range OptionTable() {
		for _, n := range o.Names {
			_, err := ParseArgs([]string{n}, SystemEnv())
			var e *Error
			needs := errors.As(err, &e) && strings.HasSuffix(e.Hint, "needs a value after it")
			if needs != (o.Value != "") {
				t.Errorf("%s alone: %v; in the table its value is %q", n, err, o.Value)
			}
		}
	}
}

func TestSyscallWords(t *testing.T) {
	for _, c := range []struct{ before, typed, want, not string }{
		{"-a always,exit -F arch=aarch64 -S", "open", "openat", "open"},
		{"-a always,exit -F arch=x86_64 -S", "openat,unl", "openat,unlink", ""},
		{"-a always,io_uring -S", "", "uring_cmd", "execve"},
		{"-a", "always,e", "always,exit", ""},
		{"-F", "ar", "arch=", ""},
		{"-F", "exit!=-EP", "exit!=-EPERM", ""},
		{"-C", "uid!=", "uid!=euid", ""},
	} {
		got := options.Complete(strings.Fields(c.before), c.typed, option.Words{}).Words
		if !slices.Contains(got, c.want) || slices.Contains(got, c.not) {
			t.Errorf("%s %s: %v, want %q and not %q", c.before, c.typed, got, c.want, c.not)
		}
	}
}
