package search

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/query"
)

// missingLog has each kind of name that is looked for.
func missingLog() string {
	tail := "\x1dAUID=\"alice\" UID=\"root\" GID=\"domain users\" EUID=DOM\\some one EGID=\"root\"\n"
	return "node=web1 " + stamped("SYSCALL", `pid=1 auid=1000 uid=0 gid=5000 euid=77 egid=0 comm="sshd" exe="/usr/sbin/sshd" key="logins"`) + tail +
		"node=web2 " + stamped("SYSCALL", `pid=1 auid=1000 uid=0 gid=0 euid=0 egid=0 comm=6D7920746F6F6C exe="/opt/a b" key=666972737401`+`7365636F6E64`) + "\n" +
		"node=db1 " + stamped("USER_CMD", `pid=7 uid=0 auid=1000 ses=1 msg='op=x exe=/usr/bin/sudo res=success'`) + "\n"
}

// A host is one of those that a parser finds: with any bytes in its name, and in syslog's words.
func TestMissingOddHosts(t *testing.T) {
	rec := stamped("USER_CMD", `pid=7 uid=0 auid=1000 ses=1 msg='op=x node=inner res=success'`) + "\n"
	log := writeLog(t, "node=a\x01b "+rec+"node=web,7, "+rec+"node=o'x "+rec+"Nov 28 14:04:05 web7 audispd: "+rec+rec+"a message node=none\n")
	for name, want := range map[string]bool{"a\x01b": true, "web,7,": true, "o'x": true, "web7": true, "inner": false, "none": false} {
		got := notesOf(t, []string{"-m", "EOE", "-if", log, "-n", name}, CodeError)
		if found := !slices.ContainsFunc(got, func(s string) bool { return !strings.Contains(s, "called 7") && !strings.Contains(s, "called web:") }); found != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

// A name that no record has is said where nothing is found, with the nearest one.
func TestMissing(t *testing.T) {
	log := writeLog(t, missingLog())
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "audit.log"), []byte(missingLog()), 0o600); err != nil {
		t.Fatal(err)
	}
	known := []string{"-m", "EOE"} // nothing is found
	for words, want := range map[string][]string{
		"-k login5":                  {"has the key login5: did you mean logins?"},
		"-k logins":                  nil,
		"-k firsx":                   {"has the key firsx: did you mean first?"},
		"-k second":                  nil,
		"-k nothing":                 {"has the key nothing"},
		"-k ogi":                     nil, // a part of one
		"-w -k login":                {"has the key login: did you mean logins?"},
		"--regex -k ^log":            nil,
		"--regex -k ^x":              {"has a key like ^x"},
		"-c sshf":                    {"is of a command called sshf: did you mean sshd?"},
		"-x sshx":                    {"is of a program called sshx"},
		"-x /usr/sbin/shsd":          {"is of a program called /usr/sbin/shsd: did you mean /usr/sbin/sshd?"},
		"-x /usr/bin/sodu":           {"is of a program called /usr/bin/sodu: did you mean /usr/bin/sudo?"},
		"-n wbe1":                    {"is of a host called wbe1: did you mean web1?"},
		"-n web1,wbe2":               {"is of a host called wbe2: did you mean web2?"},
		"-n mail*":                   {"is of a host like mail*"},
		"-n web?":                    nil,
		"-n web1 -k nokey":           {"has the key nokey"},
		"-ul alcie":                  {"is of the account alcie: did you mean alice?"},
		"-ul alice":                  nil,
		"-ua nosuch":                 {"is of the account nosuch"},
		"-gi nosuch":                 {"is of the group nosuch"},
		"--field key=login5":         {"has the key login5: did you mean logins?"},
		"--field key!=login5":        nil,
		"--field comm=tool":          nil,
		"-p 4711 -k logins":          nil,
		"-k login5 -c sshd -n web1":  {"has the key login5: did you mean logins?"},
		"-k login5 -c sshx -n wbe*1": {"is of a host like wbe*1", "has the key login5: did you mean logins?", "is of a command called sshx: did you mean sshd?"},
	} {
		for _, input := range []string{log, dir} {
			for _, way := range [][]string{nil, {"--count"}, {"--reverse"}, {"--tree"}, {"--around", "5s"}, {"--format", "json"}, {"-ts", "today"}} {
				args := slices.Concat([]string{"-if", input}, strings.Fields(words), known, way)
				got := notesOf(t, args, CodeError)
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s: %s", args, d)
				}
			}
		}
		if got := notesOf(t, append(strings.Fields(words+" -if "+log), known...), 0); got != nil {
			t.Errorf("under the stock name, %s: %q", words, got)
		}
	}
	for words, want := range map[string][]string{`-gi "domain usres"`: {"is of the group domain usres: did you mean domain users?"}, `-gi "domain users"`: nil, `-ue "DOM\some one"`: nil, `-ue "DOM\some oen"`: {`is of the account DOM\some oen: did you mean DOM\some one?`}} {
		opt, value, _ := strings.Cut(words, " ")
		if d := cmp.Diff(want, notesOf(t, append(slices.Clone(known), "-if", log, opt, strings.Trim(value, `"`)), CodeError)); d != "" {
			t.Errorf("%s: %s", words, d)
		}
	}
}

// notesOf searches and returns the notes, without their beginning. Nothing may be printed.
func notesOf(t *testing.T, args []string, code int) (notes []string) {
	t.Helper()
	env := utcEnv
	env.Strangers = true
	o, err := ParseArgs(args, env)
	if err != nil {
		t.Fatal(err)
	}
	o.ErrorCode = code
	var out, errs strings.Builder
	if got := RunFiles(t.Context(), o, utcEnv.Location, "", Stdio{Out: &out, Err: &errs}); got != 1 || strings.Trim(out.String(), "0\n") != "" {
		t.Errorf("%s: exit code %d, prints %q", args, got, out.String())
	}
	for line := range strings.Lines(errs.String()) {
		if note, ok := strings.CutPrefix(line, "NOTE - no record "); ok {
			notes = append(notes, strings.TrimSuffix(note, "\n"))
		}
	}
	return notes
}

// A name that was made to be obeyed by a terminal, or to begin a line, is made harmless.
func TestMissingHostileNames(t *testing.T) {
	log := writeLog(t, stamped("SYSCALL", "pid=1 comm=6C731B5D303B780A key=\"k\"")+"\n")
	args := []string{"-if", log, "-w", "-c", "ls\x1b]0;y\n"}
	if notes := notesOf(t, args, CodeError); len(notes) != 1 || strings.ContainsAny(notes[0], "\x1b\n") || !strings.Contains(notes[0], "did you mean ls") {
		t.Errorf("%q", notes)
	}
}

// A line of nothing but beginnings of fields, or quotes that do not end, costs no more than
// another, and hides no name behind it.
func TestMissingOddText(t *testing.T) {
	odd := strings.Repeat("key=", 100_000) + "\n" + strings.Repeat("UID=A ", 50_000) + "\nkey=\"open\nx key=\"other\"\n" + strings.Repeat(" AUID=x A", 50_000) + "\n"
	l := NewLogNames(&query.Query{Terms: []query.Term{
		{Fields: []query.Field{query.FieldKey}, Text: "othre"}, {Fields: []query.Field{query.FieldUID, query.FieldUIDName}, Op: query.OpUser, Text: "nobody"},
	}})
	for range 20 {
		l.read([]byte(odd))
	}
	if notes := l.Notes(); len(notes) != 2 || !strings.HasSuffix(notes[0], "did you mean other?") {
		t.Errorf("%q", notes)
	}
}

// More names than are kept cost no more memory, and one that is among them is seen.
func TestMissingMany(t *testing.T) {
	m := MissingOf(&query.Query{Terms: []query.Term{{Fields: []query.Field{query.FieldKey}, Text: "last"}, {Fields: []query.Field{query.FieldComm}, Text: "none"}}})
	for i := range 3 * mostKnown {
		m.Value(query.FieldKey, []byte(strings.Repeat("k", i%7)+query.Number(query.FieldPID, int64(i))))
	}
	if m.n > mostKnown {
		t.Errorf("%d names are kept", m.n)
	}
	m.Value(query.FieldKey.Other(), []byte("last"))
	if d := cmp.Diff([]string{"NOTE - no record is of a command called none"}, m.Notes()); d != "" {
		t.Error(d)
	}
}

// Text of any form does no harm, and names are found across pieces of it.
func FuzzMissingText(f *testing.F) {
	f.Add(missingLog())
	f.Add("key=\"\nkey=\x1dUID=\"a")
	f.Fuzz(func(t *testing.T, text string) {
		names := NewLogNames(&query.Query{Nodes: []string{"x*"}, Terms: []query.Term{
			{Fields: []query.Field{query.FieldKey}, Text: "\x00no"}, {Fields: []query.Field{query.FieldGID, query.FieldGIDName}, Op: query.OpUser, Text: "\x00no", Number: "7"},
		}})
		names.read([]byte(text))
		_ = names.Notes()
	})
}
