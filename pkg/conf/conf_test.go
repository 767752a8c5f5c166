package conf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parseLines parses lines against a schema and returns each problem without the
// file's name.
func parseLines(t *testing.T, schema Schema, text string) (f *File, errs, warnings []string) {
	t.Helper()
	f, err := Parse("f", []byte(text), schema)
	var list Errors
	if err != nil && !errors.As(err, &list) {
		t.Fatalf("%T: %v", err, err)
	}
	for _, e := range list {
		errs = append(errs, strings.TrimPrefix(e.Error(), "f:"))
	}
	for _, w := range f.Warnings {
		warnings = append(warnings, strings.TrimPrefix(w.Error(), "f:"))
	}
	return f, errs, warnings
}

func TestGrammar(t *testing.T) {
	for _, c := range []struct {
		name, text string
		num        int
		errs       []string
		warnings   []string
	}{
		{name: "plain", text: "num_logs = 5\n", num: 5},
		{name: "case and spaces", text: "  NUM_Logs   =    5   \n", num: 5},
		{name: "tabs", text: "\tnum_logs\t=\t5\t\n", num: 5},
		{name: "no spaces", text: "num_logs=5\n", num: 5},
		{name: "no newline at the end", text: "num_logs = 5", num: 5},
		{name: "comments and empty lines", text: "# c\n\n   \n  # num_logs = 4\n##num_logs = 3\nnum_logs = 5\n", num: 5},
		{name: "longer than stock takes", text: "#" + strings.Repeat("x", 5000) + "\nnum_logs = " + strings.Repeat(" ", 500) + "5\n", num: 5},
		{name: "leading zeroes", text: "num_logs = 005\n", num: 5},
		{name: "repeated", text: "num_logs = 4\nnum_logs = 5\n", num: 5, warnings: []string{"2: num_logs: set before in line 1; this line counts"}},
		{name: "missing equal sign", text: "num_logs 5\n", errs: []string{`1: missing equal sign after "num_logs 5" (write: key = value)`}},
		{name: "only a word", text: "\n\nnum_logs\n", errs: []string{`3: missing equal sign after "num_logs" (write: key = value)`}},
		{name: "missing keyword", text: "= 5\n", errs: []string{"1: missing keyword before the equal sign (write: key = value)"}},
		{name: "two words before", text: "num logs = 5\n", errs: []string{`1: several words before the equal sign: "num logs" (write: key = value)`}},
		{name: "missing value", text: "num_logs =\n", errs: []string{"1: num_logs: missing value (remove the line to have the default)"}},
		{name: "two values", text: "num_logs = 5 6\n", errs: []string{`1: num_logs: unexpected "6" after the value`}},
		{name: "comment behind", text: "num_logs = 5 # five\n", errs: []string{`1: num_logs: unexpected "#" after the value (a comment needs a line of its own)`}},
		{name: "doubled equal sign", text: "num_logs == 5\n", errs: []string{`1: num_logs: unexpected "5" after the value`}},
		{name: "quotes are no quotes", text: `num_logs = "5"` + "\n", errs: []string{`1: num_logs: "\"5\"" is not a number`}},
		{name: "byte order mark", text: "\ufeffnum_logs = 5\n", errs: []string{"1: the file begins with a byte order mark, which is no part of a keyword (save the file as UTF-8 without BOM)"}},
		{name: "carriage return", text: "num_logs = 5\r\n", errs: []string{"1: line ends with a carriage return (save the file with Unix line ends)"}},
		{name: "control character", text: "num_logs = 5\x01\n", errs: []string{"1: control character 0x1 in the line"}},
		{name: "unknown, near", text: "num_log = 5\n", errs: []string{`1: unknown keyword "num_log" (did you mean num_logs?)`}},
		{name: "unknown, swapped", text: "num_lgos = 5\n", errs: []string{`1: unknown keyword "num_lgos" (did you mean num_logs?)`}},
		{name: "unknown, far", text: "color = 5\n", errs: []string{`1: unknown keyword "color"`}},
		{name: "all are reported", text: "x = 1\nnum_logs = a\nnum_logs = 1000\n", errs: []string{
			`1: unknown keyword "x"`, `2: num_logs: "a" is not a number`, "3: num_logs: 1000 is too large: at most 999"},
			warnings: []string{"3: num_logs: set before in line 2; this line counts"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Auditd
			_, errs, warnings := parseLines(t, a.Schema(), c.text)
			if d := cmp.Diff(c.errs, errs); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.warnings, warnings); d != "" {
				t.Error(d)
			}
			if a.NumLogs != c.num {
				t.Errorf("num_logs is %d, want %d", a.NumLogs, c.num)
			}
		})
	}
}

func TestOwnKeys(t *testing.T) {
	var (
		bytes int64
		d     time.Duration
		list  []string
		word  string
	)
	schema := Schema{
		Bytes("max_bytes", &bytes, 1<<10, 1<<40),
		Duration("every", &d, time.Millisecond, 24*time.Hour),
		List("remotes", &list), Word("node", &word),
	}
	f, errs, _ := parseLines(t, schema, "max_bytes = 64MiB\nevery = 90s\nremotes = a:60, b:60,c\nNode = Web1\n")
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if bytes != 64<<20 || d != 90*time.Second || word != "Web1" || f.Line("node") != 4 || f.Value("node") != "Web1" || !f.Has("every") || f.Has("x") {
		t.Errorf("%d %s %q", bytes, d, word)
	}
	if diff := cmp.Diff([]string{"a:60", "b:60", "c"}, list); diff != "" {
		t.Error(diff)
	}
	for line, want := range map[string]string{
		"max_bytes = 12":     "too small",
		"max_bytes = 9999T":  "too large",
		"max_bytes = 5X":     "is not a size",
		"max_bytes = M":      "is not a size",
		"max_bytes = 5KMG":   "is not a size",
		"every = 5y":         "is not a duration",
		"every = -5s":        "is not a duration",
		"every = 2d":         "too long",
		"every = 1us":        "too short",
		"remotes = , ,":      "nothing but commas",
		"max_bytes = 1e3":    "is not a size",
		"every = 9999999999": "too large",
	} {
		if _, errs, _ := parseLines(t, schema, line); len(errs) != 1 || !strings.Contains(errs[0], want) && !strings.Contains(errs[0], "is not a duration") {
			t.Errorf("%s: %v, want %q", line, errs, want)
		}
	}
}

func TestCrossChecksCarryLines(t *testing.T) {
	a := DefaultAuditd()
	f, err := Parse("/etc/audit/auditd.conf", []byte("space_left = 40\nname_format = user\nadmin_space_left = 50\n"), a.Schema())
	if err != nil {
		t.Fatal(err)
	}
	err = a.Validate(f)
	want := "/etc/audit/auditd.conf:2: name_format: user needs the name in the key name\n" +
		"/etc/audit/auditd.conf:3: admin_space_left: space_left (40) must be larger than admin_space_left (50)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSpaceAndAction(t *testing.T) {
	if n := (Space{Percent: 25}).Of(2 << 30); n != 536870900 {
		t.Errorf("25%% of 2 GiB: %d", n)
	}
	if n := (Space{MiB: 75}).Of(1); n != 75<<20 {
		t.Errorf("75 MiB: %d", n)
	}
	if s := (Action{Do: DoExec, Exec: "/bin/x"}).String(); s != "exec /bin/x" {
		t.Error(s)
	}
}

func TestSecureFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "auditd.conf")
	write := func(mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte("num_logs = 5\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(0o640)
	if a, _, err := LoadAuditd(path); err != nil || a.NumLogs != 5 {
		t.Fatal(a.NumLogs, err)
	}
	write(0o646)
	if _, _, err := LoadAuditd(path); err == nil || !strings.Contains(err.Error(), "world-writable") {
		t.Error(err)
	}
	write(0o640)
	link := filepath.Join(dir, "link.conf")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadAuditd(link); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Error(err)
	}
	if a, _, err := LoadAuditdLinked(link); err != nil || a.NumLogs != 5 {
		t.Error(a.NumLogs, err)
	}
	write(0o646) // what a link points to is as it must be without one
	if _, _, err := LoadAuditdLinked(link); err == nil || !strings.Contains(err.Error(), "world-writable") {
		t.Error(err)
	}
	write(0o640)
	if os.Geteuid() == 0 {
		if err := os.Lchown(link, 12345, 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := LoadAuditdLinked(link); err == nil || !strings.Contains(err.Error(), "symbolic link of uid 12345") {
			t.Error(err)
		}
	}
	if _, _, err := LoadAuditd(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Error(err)
	}
	if _, _, err := LoadAuditd(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadAuditd(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Error(err)
	}
	if os.Geteuid() == 0 {
		write(0o640)
		if err := os.Chown(path, 12345, 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := LoadAuditd(path); err == nil || !strings.Contains(err.Error(), "belongs to uid 12345") {
			t.Error(err)
		}
	}
}

// A file that serves a collector, too: its keys are named, each, and change
// nothing.
func TestCollectorKeysOnAHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auditd.conf")
	text := "num_logs = 7\n"
	for _, k := range CollectorKeys {
		text += k + " = 1\n"
	}
	if err := os.WriteFile(path, []byte(text+"http =\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	a, f, err := LoadAuditd(path)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultAuditd()
	want.NumLogs = 7
	if diff := cmp.Diff(want, a); diff != "" {
		t.Error(diff)
	}
	for i, k := range CollectorKeys {
		if !slices.ContainsFunc(f.Warnings, func(w *Error) bool { return w.Line == i+2 && strings.Contains(w.Error(), "no effect on a host") }) {
			t.Errorf("no warning about %s: %v", k, f.Warnings)
		}
	}
}

func TestPlugins(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.conf":       "active = yes\npath = /bin/sh\nargs = a b c\nformat = binary\n",
		"a.conf":       "active = no\ndirection = out\npath = builtin_af_unix\ntype = builtin\nargs = 0640 /run/x\n",
		"old.conf.bak": "nonsense\n",
		".hidden":      "nonsense\n",
		"c.conf":       "active = yes\npath = sh\n",
		"d.conf":       "active = yes\npath = /nonexistent/x\n",
		"e.conf":       "active = maybe\n",
		"f.conf":       "active = no\npath = /nonexistent/x\nargs =\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	plugins, err := LoadPlugins(dir)
	want := []Plugin{
		{Name: "a", Direction: "out", Path: "builtin_af_unix", Type: PluginBuiltin, Args: []string{"0640", "/run/x"}, Format: FormatString},
		{Name: "b", Active: true, Direction: "out", Path: "/bin/sh", Type: PluginAlways, Args: []string{"a", "b", "c"}, Format: FormatBinary},
		{Name: "f", Direction: "out", Path: "/nonexistent/x", Type: PluginAlways, Format: FormatString},
	}
	if d := cmp.Diff(want, plugins); d != "" {
		t.Error(d)
	}
	if err == nil {
		t.Fatal("no error")
	}
	for _, s := range []string{
		"/c.conf:2: path: \"sh\" is not an absolute path", "/d.conf:2: path: stat /nonexistent/x: no such file",
		"/e.conf:1: active: \"maybe\" is neither yes nor no", "/e.conf: path: is missing",
	} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q is not in\n%v", s, err)
		}
	}
}

func TestReportInterval(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"0": 0, "90": 90 * time.Second, "5m": 5 * time.Minute, "2h": 2 * time.Hour, "3d": 72 * time.Hour, "1M": 720 * time.Hour,
	} {
		if got, err := reportInterval(v); err != nil || got != want {
			t.Errorf("%s: %v %v", v, got, err)
		}
	}
	for _, v := range []string{"m", "-5", "41d", "2M", "5w", "5mm"} {
		if got, err := reportInterval(v); err == nil {
			t.Errorf("%s: %v", v, got)
		}
	}
}

// FuzzParse: no panic, every error has a line of the file, and what parses
// without error does so again when written out plainly.
func FuzzParse(f *testing.F) {
	f.Add("num_logs = 5\nspace_left = 5%\n")
	f.Add("space_left_action = exec /bin/true\n#\n=\n\x00\r\n")
	f.Add("tcp_client_ports = 1-2-3\nreport_interval = M\nname=a=b")
	f.Add("remote_server = \nlocal_port = any\nargs = a  b\tc")
	f.Fuzz(func(t *testing.T, text string) {
		var a Auditd
		var r Remote
		var p Plugin
		for _, schema := range []Schema{a.Schema(), r.Schema(), p.Schema()} {
			file, err := Parse("f", []byte(text), schema)
			var list Errors
			if errors.As(err, &list) {
				for _, e := range list {
					if e.Line < 1 || e.Line > strings.Count(text, "\n")+1 || e.Msg == "" {
						t.Fatalf("%+v", e)
					}
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var plain strings.Builder
			for _, k := range schema {
				if file.Has(k.Name) {
					plain.WriteString(k.Name + " = " + file.Value(k.Name) + "\n")
				}
			}
			if _, err := Parse("again", []byte(plain.String()), schema); err != nil {
				t.Fatalf("%v\nfrom %q", err, plain.String())
			}
		}
	})
}
