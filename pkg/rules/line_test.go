package rules

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSplitLine(t *testing.T) {
	for line, want := range map[string][]string{
		"":                                nil,
		"   ":                             nil,
		"# -D":                            nil,
		"  # -D":                          nil,
		"-D":                              {"-D"},
		"  -w   /etc -p wa ":              {"-w", "/etc", "-p", "wa"},
		"\t-D\t":                          {"-D"},
		"-D\r":                            {"-D"},
		`-w /a\ b -k c`:                   {"-w", "/a b", "-k", "c"},
		`-w /a\\b -k c`:                   {"-w", `/a\b`, "-k", "c"},
		`-w /a\\\ b`:                      {"-w", `/a\ b`},
		`-w /a\b`:                         {"-w", `/a\b`},
		`-w /a\`:                          {"-w", `/a\`},
		`-w "/a b"`:                       {"-w", `"/a`, `b"`},
		"-k a#b":                          {"-k", "a#b"},
		`-F $'path=/a\x0ab\'\\' -k x`:     {"-F", "path=/a\nb'\\", "-k", "x"},
		`-k $'a\x0a'`:                     {"-k", `$'a\x0a'`},
		`-F $'open`:                       {"-F", `$'open`},
		`-F $'a'b`:                        {"-F", `$'a'b`},
		`-F $'\q'`:                        {"-F", `$'\q'`},
		`-F $'\x0'`:                       {"-F", `$'\x0'`},
		"-a always,exit -S open, openat ": {"-a", "always,exit", "-S", "open,", "openat"},
	} {
		if got := Args(SplitLine(line)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestSplitLineColumns(t *testing.T) {
	words := SplitLine(`  -w  /a\ b -k c`)
	got := ""
	for _, w := range words {
		got += fmt.Sprintf("%d ", w.Col)
	}
	if got != "3 7 13 16 " {
		t.Errorf("columns %s", got)
	}
}

// TestJoinLine: words without control bytes come back from their line.
func TestJoinLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOfN(rapid.StringMatching(`[!-~ é]{1,12}`), 1, 6).Draw(t, "args")
		if args[0][0] == '#' {
			return // a comment: no option begins like this
		}
		if got := Args(SplitLine(JoinLine(args))); !slices.Equal(got, args) {
			t.Fatalf("%q came back as %q from %q", args, got, JoinLine(args))
		}
	})
}
