package search

import (
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/option"
)

func TestWordsOffered(t *testing.T) {
	for _, c := range []struct {
		before, typed string
		want          []string // among the words
		not           string
	}{
		{"-m", "USER_LO", []string{"USER_LOGIN", "USER_LOGOUT"}, "USER_AUTH"},
		{"-m", "SYSCALL,AV", []string{"SYSCALL,AVC"}, ""},
		{"-sc", "open", []string{"openat", "open"}, ""},
		{"--arch aarch64 -sc", "open", []string{"openat"}, "open"},
		{"-te", "", []string{"today", "now"}, "checkpoint"},
		{"-ts", "ch", []string{"checkpoint"}, ""},
		{"-e", "-EAC", []string{"-EACCES"}, ""},
		{"--format", "", []string{"json", "csv", "text", "line"}, ""},
		{"--field", "sys", []string{"syscall="}, ""},
		{"--field", "success=", []string{"success=yes", "success=no"}, ""},
		{"--field", "type!=AVC", []string{"type!=AVC"}, ""},
		{"-ui", "roo", []string{"root"}, ""},
		{"", "--for", []string{"--format"}, ""},
		{"--interpret", "-s", []string{"-sc", "-sv", "-su"}, ""},
	} {
		var got []string
		for _, w := range options.Complete(strings.Fields(c.before), c.typed, option.Words{}).Words {
			text, _, _ := strings.Cut(w, "\t")
			got = append(got, text)
		}
		for _, w := range c.want {
			if !slices.Contains(got, w) {
				t.Errorf("%s %s: %v have no %s", c.before, c.typed, got, w)
			}
		}
		if slices.Contains(got, c.not) {
			t.Errorf("%s %s: %s is offered", c.before, c.typed, c.not)
		}
	}
}
