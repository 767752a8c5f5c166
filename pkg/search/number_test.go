package search

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// Values that begin with a number, or look like one, with the options that take them.
// What audit 4.2.2 refuses is refused; it was tried with each.
var numbersTried = []struct {
	value string
	taken string // the options that take it
}{
	{"1001", "-a -ui -ue -ul -ua -gi -ge -ga -p -pp --session -e -sc -m --eoe-timeout"},
	{"01751", "-a -ui -ue -ul -ua -gi -ge -ga -p -pp --session -e -sc -m --eoe-timeout"},
	{"0x3e9", "-e"},
	{"0junk", ""},
	{"1001.5", ""},
	{"1e3", ""},
	{"1_000", ""},
	{"0b11", ""},
	{"0o17", ""},
	{"1001 ", ""},
	{"+5", ""},
	{" 5", ""},
	{"", ""},
	{"-", ""},
	{"-1", "-ul --session -e"},
	{"-2147483648", "-ul --session -e"},
	{"-2147483649", "-e"},
	{"-0x10", "-ul --session -e"},
	{"-5junk", ""},
	{"-13.5", ""},
	{"2147483647", "-a -ui -ue -ul -ua -gi -ge -ga -p -pp --session -e -sc -m"},
	{"2147483648", "-a -ui -ue -ul -ua -gi -ge -ga --session -e"},
	{"4294967295", "-a -ui -ue -ul -ua -gi -ge -ga --session -e"},
	{"4294967296", "-e"},
	{"9223372036854775808", ""},
	{"18446744073709551616", ""},
	{"ENOENT", "-e"},
	{"-EACCES", "-e"},
	{"EACCESS", ""},
}

func TestNumbers(t *testing.T) {
	options := []string{"-a", "-ui", "-ue", "-ul", "-ua", "-gi", "-ge", "-ga", "-p", "-pp", "--session", "-e", "-sc", "-m", "--eoe-timeout"}
	fields := map[string]string{"-ui": "uid", "-ul": "auid", "-ue": "euid", "-gi": "gid", "-ge": "egid", "-p": "pid", "-pp": "ppid", "--session": "ses", "-e": "exit", "-sc": "syscall"}
	for _, strangers := range []bool{false, true} { // a fleet's accounts are not known, but none is called +5
		env := utcEnv
		env.Strangers = strangers
		for _, c := range numbersTried {
			for _, opt := range options {
				check := func(args ...string) {
					_, err := ParseArgs(args, env)
					var usage *UsageError
					want := slices.Contains(strings.Fields(c.taken), opt)
					if (err == nil) != want && !(strangers && err == nil && c.value == "ENOENT") && !(strangers && err == nil && c.value == "EACCESS") {
						t.Errorf("%q: %v, taken: %v", args, err, want)
					}
					if err != nil && (!errors.As(err, &usage) || strings.TrimSpace(c.value) != "" && !strings.Contains(err.Error(), strings.TrimSpace(c.value)) && !strings.HasPrefix(err.Error(), "Argument is required")) {
						t.Errorf("%q: %v does not say what it was", args, err)
					}
				}
				check(opt, c.value)
				if name := fields[opt]; name != "" && c.value != "" {
					check("--field", name+"="+c.value)
					check("--field", name+"!="+c.value)
				}
			}
		}
	}
}

// A number is the one that it says: 010 is ten to all but the exit code, which C reads.
func TestNumberValues(t *testing.T) {
	for _, c := range []struct {
		opt, value, want string
	}{
		{"-ui", "010", "10"}, {"-p", "010", "10"}, {"-sc", "010", "10"}, {"-e", "010", "8"}, {"-e", "0x10", "16"}, {"-e", "-0x10", "-16"},
		{"-ul", "-1", "4294967295"}, {"--session", "-1", "4294967295"}, {"-ul", "-2", "4294967294"}, {"-e", "-ENOENT", "-2"}, {"-e", "ENOENT", "2"},
	} {
		o, err := ParseArgs([]string{c.opt, c.value}, utcEnv)
		if err != nil {
			t.Errorf("%s %s: %v", c.opt, c.value, err)
			continue
		}
		if got := o.Query.Terms[0].Text; got != c.want {
			t.Errorf("%s %s is %s, want %s", c.opt, c.value, got, c.want)
		}
	}
}

// Several types in one word, and patterns of them.
func TestTypePatterns(t *testing.T) {
	o, err := ParseArgs([]string{"-m", "USER_LOG*,avc,1300"}, utcEnv)
	if err != nil {
		t.Fatal(err)
	}
	if want := []uint32{1112, 1113, 1400, 1300}; !slices.Equal(o.Query.Types, want) {
		t.Errorf("types %v, want %v", o.Query.Types, want)
	}
}

func FuzzNumbers(f *testing.F) {
	for _, c := range numbersTried {
		f.Add(c.value)
	}
	f.Fuzz(func(t *testing.T, v string) {
		for _, opt := range []string{"-a", "-ui", "-gi", "-p", "--session", "-e", "-sc", "-m", "--eoe-timeout", "--field"} {
			value := v
			if opt == "--field" {
				value = "uid=" + v
			}
			o, err := ParseArgs([]string{opt, value}, Env{Location: utcEnv.Location, Locale: "C", Machine: "x86_64",
				UserID: func(string) (uint32, bool) { return 0, false }, GroupID: func(string) (uint32, bool) { return 0, false }})
			if err != nil || opt == "-m" || opt == "-e" || opt == "--eoe-timeout" || opt == "-a" {
				continue
			}
			if len(o.Query.Terms) > 0 && o.Query.Terms[0].Op == query.OpEqual && isDigit(v) && strings.TrimLeft(v, "0") != strings.TrimLeft(o.Query.Terms[0].Text, "0") {
				t.Errorf("%s %q is taken for %s", opt, v, o.Query.Terms[0].Text)
			}
		}
	})
}
