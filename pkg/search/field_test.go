package search

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// Operators with blanks around them, and as people write them elsewhere.
func TestFieldForms(t *testing.T) {
	log := writeLog(t, stamped("SYSCALL", exampleCall)+"\n") // uid=0 auid=1000 exit=-13
	for field, finds := range map[string]bool{
		"uid >= 0": true, "uid < 1": true, "uid==0": true, "uid = 0": true, "comm==cups": true, "comm != cups": false, "auid=unset": false, "auid!=unset": true, "exit <= -13": true, "exit > -13": false,
	} {
		if r := runOurs(utcEnv, "-if", log, "-r", "--field", field); (r.out != "") != finds {
			t.Errorf("--field %s: exit %d, %q; found: want %v", field, r.code, r.stderr, finds)
		}
	}
	for field, want := range map[string]string{
		"uid>=0x3e9": "0x3e9 is no whole number", "uid>=+5": "+5 is no whole number", "uid>1e3": "1e3 is no whole number", "uid>": "--field must be", "ui$d=5": "cannot be the name of a field", "a b=5": "cannot be the name of a field",
		"uid=1e3": "--field: Numeric user ID conversion error", "uid=0x3e9": "--field: Numeric user ID conversion error",
	} {
		_, err := ParseArgs([]string{"--field", field}, utcEnv)
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", field, err, want)
		}
	}
}

// A name that is no field's is said where nothing is found; it may be one all the same.
func TestUnknownField(t *testing.T) {
	log := writeLog(t, stamped("SYSCALL", exampleCall+" widget=7")+"\n")
	for _, c := range []struct {
		field, note string
		finds       bool
	}{
		{"exee=cups", "NOTE - no field is known by the name exee: did you mean exe?", false},
		{"widget=7", "", true},
		{"widget=8", "NOTE - no field is known by the name widget", false},
		{"exee!=cups", "NOTE - no field is known by the name exee: did you mean exe?", true},
		{"exe=nothing", "", false}, {"a12=x", "", false}, {"a0[3]=x", "", false}, {"UID=x", "", false}, {"*=nothing", "", false}, {"old-auid=5", "", false}, {"terminal=x", "", false}, {"subj=x", "", false},
	} {
		o, err := ParseArgs([]string{"-if", log, "-r", "--field", c.field}, utcEnv)
		if err != nil {
			t.Fatal(err)
		}
		var notes, errs strings.Builder
		for _, note := range o.Notes {
			notes.WriteString(note + "\n")
		}
		code := RunFiles(t.Context(), o, utcEnv.Location, "", Stdio{Out: &strings.Builder{}, Err: &errs})
		notes.WriteString(errs.String())
		if (code == 0) != c.finds || strings.TrimSpace(notes.String()) != c.note && !(c.note != "" && strings.HasPrefix(notes.String(), c.note)) {
			t.Errorf("%s: exit %d, %q", c.field, code, notes.String())
		}
	}
}

// Hosts are named one by one, in a list or by a pattern; one that no record is of is said.
func TestNodes(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	var text strings.Builder
	for _, node := range []string{"web1", "web2", "db1", "a,b"} {
		text.WriteString("node=" + node + " " + stamped("USER_LOGIN", "pid=1") + "\n")
	}
	if err := os.WriteFile(log, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	bare := writeLog(t, stamped("USER_LOGIN", "pid=1")+"\n")
	for _, c := range []struct {
		log, nodes string
		want       []string // hosts found
		note       string
	}{
		{log, "web1", []string{"web1"}, ""}, {log, "web1,web2", []string{"web1", "web2"}, ""}, {log, "web*", []string{"web1", "web2"}, ""}, {log, "*1", []string{"web1", "db1"}, ""},
		{log, "web?,db?", []string{"web1", "web2", "db1"}, ""}, {log, "a,b", []string{"a,b"}, ""}, {log, "*", []string{"web1", "web2", "db1", "a,b"}, ""},
		{log, "wbe1", nil, "NOTE - no record is of a host called wbe1: did you mean web1"}, {log, "mail*", nil, "NOTE - no record is of a host like mail*"},
		{bare, "web1", nil, "NOTE - no record is of a host called web1"},
	} {
		o, err := ParseArgs([]string{"-if", c.log, "-r", "-n", c.nodes}, utcEnv)
		if err != nil {
			t.Fatal(err)
		}
		o.ErrorCode = CodeError
		var out, errs strings.Builder
		RunFiles(t.Context(), o, utcEnv.Location, "", Stdio{Out: &out, Err: &errs})
		var got []string
		for line := range strings.Lines(out.String()) {
			node, _, _ := strings.Cut(strings.TrimPrefix(line, "node="), " ")
			got = append(got, node)
		}
		if d := cmp.Diff(c.want, got); d != "" || !strings.HasPrefix(errs.String(), c.note) || c.note == "" && errs.Len() > 0 {
			t.Errorf("-n %s: %s %q", c.nodes, d, errs.String())
		}
	}
}

// What was read and is no log at all is said where nothing is found.
func TestNoRecords(t *testing.T) {
	log := writeLog(t, "web1\nweb2\n")
	o, err := ParseArgs([]string{"-if", log, "-k", "x"}, utcEnv)
	if err != nil {
		t.Fatal(err)
	}
	o.ErrorCode = CodeError
	var errs strings.Builder
	code := RunFiles(t.Context(), o, utcEnv.Location, "", Stdio{Out: &strings.Builder{}, Err: &errs})
	if code != 1 || errs.String() != "<no matches>\nNOTE - of what was read 2 lines are no audit records; --debug shows them\nNOTE - no record has the key x\n" {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

// Whatever the words, they are refused or make a query that can be asked.
func FuzzField(f *testing.F) {
	for _, s := range []string{"uid>=1000", "exee=x", "a0[1]~.", "uid >= 5", "*!~(", "a1<0x10", "exit>-13", "auid=unset", "key==x", "=", "!", "x!", "x<", "type!=AVC", "syscall=openat", "a\x00b=c"} {
		f.Add(s)
	}
	env := Env{Location: utcEnv.Location, Locale: "C", Machine: "x86_64", Strangers: true,
		UserID: func(string) (uint32, bool) { return 0, false }, GroupID: func(string) (uint32, bool) { return 0, false }}
	f.Fuzz(func(t *testing.T, field string) {
		for _, more := range [][]string{nil, {"-i"}, {"-w"}} {
			o, err := ParseArgs(append([]string{"--field", field}, more...), env)
			var usage *UsageError
			switch {
			case err != nil && !errors.As(err, &usage):
				t.Errorf("%q: %v", field, err)
			case err == nil && o.Query.Check() != nil:
				t.Errorf("%q: %v", field, o.Query.Check())
			case err == nil && len(o.Query.Terms)+len(o.Query.Filters) == 0 && !strings.HasPrefix(field, "-"):
				t.Errorf("%q is no condition", field)
			case err == nil:
				query.NewMatcher(&o.Query)
			}
		}
	})
}
