package option

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var table = Table{
	{Names: []string{"-k", "--key"}, Value: "TEXT", Brief: "key"},
	{Names: []string{"-i"}, Brief: "words"},
	{Names: []string{"-m"}, Value: "TYPE", Words: Words{Comma: true, List: func([]string, string) []string { return []string{"USER", "USER_LOGIN", "SYSCALL\ta call"} }}},
	{Names: []string{"--exit"}, Value: "N", Dash: true, Words: These("-EACCES", "-EPERM")},
	{Names: []string{"-ts"}, Value: "DATE", More: 1, Words: These("now", "today")},
	{Names: []string{"--regex"}, Value: "RE", Optional: true, Equals: true},
	{Names: []string{"--field"}, Value: "F=V", Equals: true, Words: These("uid=", "pid=")},
	{Names: []string{"-if"}, Value: "FILE", Words: Files},
}

func TestComplete(t *testing.T) {
	options := "-k --key -i -m --exit -ts --regex --field -if"
	for _, c := range []struct{ before, typed, want string }{
		{"", "", options},
		{"", "-", options},
		{"", "--", "--key --exit --regex --field"},
		{"-i", "-i", "-i -if"},
		{"-k", "", ""},
		{"-k", "-", ""}, // it has to be a value
		{"-k x", "-k", "-k"},
		{"-m", "US", "USER USER_LOGIN"},
		{"-m", "USER,", "USER,USER_LOGIN USER,SYSCALL"},
		{"-m", "USER,S", "USER,SYSCALL"},
		{"-m", "x,y,USER_", "x,y,USER_LOGIN"},
		{"--exit", "-E", "-EACCES -EPERM"},
		{"--exit -EPERM", "-k", "-k"},
		{"-ts", "t", "today"},
		{"-ts", "", "now today"},
		{"-ts today", "-", options},
		{"-ts today 10:00", "", options},
		{"--regex", "-k", "-k"},
		{"--regex", "-", options},
		{"", "--field=u", "uid= nospace"},
		{"--field", "", "uid= pid= nospace"},
		{"-if", "", "files"},
		{"-if a", "", options},
		{"unknown words", "-k", "-k"},
		{"", "word", ""},
	} {
		got := table.Complete(strings.Fields(c.before), c.typed, Words{})
		var words []string
		for _, w := range got.Words {
			text, _, _ := strings.Cut(w, "\t")
			words = append(words, text)
		}
		if got.NoSpace {
			words = append(words, "nospace")
		}
		if got.Files {
			words = append(words, "files")
		}
		if diff := cmp.Diff(strings.Fields(c.want), words, cmp.Comparer(func(a, b []string) bool { return strings.Join(a, " ") == strings.Join(b, " ") })); diff != "" {
			t.Errorf("%q %q (-want +got):\n%s", c.before, c.typed, diff)
		}
	}
	if got := table.Complete(nil, "", Folders); !got.Folders || len(got.Words) > 0 {
		t.Errorf("where a folder may stand: %+v", got)
	}
	if got := table.Complete(nil, "-k", Folders); len(got.Words) != 1 {
		t.Errorf("an option where a folder may stand: %+v", got)
	}
}

// What parsers and tests ask a table.
func TestTable(t *testing.T) {
	if diff := cmp.Diff(strings.Fields("-k --key -i -m --exit -ts --regex --field -if"), table.Names()); diff != "" {
		t.Error(diff)
	}
	valued := table.Valued()
	if len(valued) != len(table.Names()) || !valued["--key"] || valued["-i"] || !valued["--regex"] {
		t.Errorf("%v", valued)
	}
	for in, want := range map[string]string{
		"--field=uid=0 -i":  "--field uid=0 -i",  // at the first sign only
		"--regex=a --key=b": "--regex a --key=b", // not every option may be written so
		"--field uid=0":     "--field uid=0",
		"a=b":               "a=b",
	} {
		if got := strings.Join(table.SplitEquals(strings.Fields(in)), " "); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}
