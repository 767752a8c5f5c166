package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// tableKinds are all tables of aureport, as words.
func tableKinds() (all [][]string) {
	for k := range reports {
		s := &reports[k]
		var words []string
		if len(s.names) > 0 {
			words = []string{s.names[0]}
		}
		if Kind(k) == Unset {
			continue
		}
		all = append(all, words)
		if s.sum != nil {
			all = append(all, append([]string{"--summary"}, words...))
		}
	}
	return all
}

// rowsOf are the rows of a report in csv and in JSON, by column; none where a cell is
// absent.
func rowsOf(t *testing.T, args []string) (fromCSV, fromJSON []map[string]string, heads []string) {
	t.Helper()
	r := runOurs(append(args, "--format", "csv")...)
	rows, err := csv.NewReader(strings.NewReader(r.out)).ReadAll()
	if err != nil || len(rows) == 0 {
		t.Fatalf("%q: %v of %q, %s", args, err, r.out, r.stderr)
	}
	heads = rows[0]
	for _, row := range rows[1:] {
		one := map[string]string{}
		for i, v := range row {
			if v != "" {
				one[heads[i]] = strings.ToValidUTF8(v, "\uFFFD")
			}
		}
		fromCSV = append(fromCSV, one)
	}
	for line := range strings.Lines(runOurs(append(args, "--format", "json")...).out) {
		dec := json.NewDecoder(strings.NewReader(line))
		dec.UseNumber()
		var obj map[string]any
		if err := dec.Decode(&obj); err != nil || len(obj) != len(heads) {
			t.Fatalf("%q: %v: %q has not the columns %v", args, err, line, heads)
		}
		one := map[string]string{}
		for name, v := range obj {
			if text := fmt.Sprint(v); v != nil && text != "" {
				one[name] = strings.ToValidUTF8(text, "\uFFFD")
			}
		}
		fromJSON = append(fromJSON, one)
	}
	return fromCSV, fromJSON, heads
}

// TestFormats writes every table of aureport in every format: the same rows, as many as
// aureport has lines, under names that the manual page documents.
func TestFormats(t *testing.T) {
	page, err := os.ReadFile("../../deploy/man/collector-report.8")
	if err != nil {
		t.Fatal(err)
	}
	_, words, _ := bytes.Cut(page, []byte(".Sh FORMATS"))
	words, _, _ = bytes.Cut(words, []byte(".Sh FILES"))
	words = []byte(" " + strings.NewReplacer(",", " ", "\n", " ").Replace(string(words)) + " ")
	numbered := regexp.MustCompile(`(?m)^\d+\. `)
	counted := regexp.MustCompile(`(?m)^\d+  `)
	some := 0
	for _, log := range []string{"../search/testdata/types.log", "../search/testdata/kernel-node.log", "../record/testdata/samples.log"} {
		for _, kind := range need.Some(tableKinds(), 12) {
			for _, more := range [][]string{nil, {"-i"}, {"--failed"}} {
				args := append(append([]string{"-if", log}, kind...), more...)
				a, b, heads := rowsOf(t, args)
				if d := cmp.Diff(a, b); d != "" {
					t.Errorf("%q (-csv +json):\n%s", args, d)
				}
				stock := runOurs(args...).out
				lines := len(numbered.FindAllString(stock, -1))
				if strings.Contains(stock, "total  ") {
					lines = len(counted.FindAllString(stock, -1))
				}
				if strings.Contains(strings.Join(args, " "), "--tty") {
					lines = len(a) // a line that begins so may have been typed
				}
				if len(kind) > 0 && kind[0] != "-t" && len(kind)+len(more) > 0 && len(a) != lines {
					t.Errorf("%q: %d rows, aureport has %d lines", args, len(a), lines)
				}
				some += len(a)
				table := runOurs(append(args, "--format", "table")...).out
				if len(a) > 0 && len(kind) > 0 && strings.Count(table, "\n") != len(a)+1 {
					t.Errorf("%q: a table of %d lines for %d rows:\n%s", args, strings.Count(table, "\n"), len(a), table)
				}
				for _, h := range heads {
					if !bytes.Contains(words, []byte(" "+h+" ")) {
						t.Errorf("%q: the manual page does not name the column %s", args, h)
					}
				}
			}
		}
	}
	if some < need.Size(500, 100) {
		t.Errorf("only %d rows", some)
	}
}

// TestColumns has a name for each of aureport's columns.
func TestColumns(t *testing.T) {
	for k := range reports {
		s := &reports[k]
		if n := len(strings.Fields(s.columns)); n != len(s.cells) {
			t.Errorf("%s: %d columns, %d cells", s.title, n, len(s.cells))
		}
		seen := map[string]bool{timeColumn: true, nodeField: true}
		for _, c := range s.cells {
			if c.name == "" || seen[c.name] {
				t.Errorf("%s: the column %q", s.title, c.name)
			}
			seen[c.name] = true
		}
	}
}

// TestFormatsOfHostileNames keeps what programs chose in its cell.
func TestFormatsOfHostileNames(t *testing.T) {
	name := func(hex string) string { return strings.Replace(exampleCall, `comm="cupsd"`, "comm="+hex, 1) }
	path := filepath.Join(t.TempDir(), "audit.log")
	log := ""
	for i, hex := range []string{"612C62", "6122620A63", "1B5B324A", "E6BCA2E5AD97", "FF00", "3D312B31", "2D31"} {
		log += strings.Replace(stamped("SYSCALL", name(hex)), ":45)", fmt.Sprintf(":%d)", i), 1) + "\n"
	}
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	fromCSV, _, _ := rowsOf(t, []string{"-if", path, "--comm"})
	var got []string
	for _, row := range fromCSV {
		got = append(got, row["comm"])
	}
	if d := cmp.Diff([]string{"a,b", "a\"b\nc", "\x1b[2J", "漢字", "\uFFFD", "=1+1", "-1"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if r := runOurs("-if", path, "--comm", "--format", "csv", "--csv-safe"); !strings.Contains(r.out, ",'=1+1,") || !strings.Contains(r.out, ",'-1,") {
		t.Errorf("formulas: %s", r.out)
	}
	if r := runOurs("-if", path, "--by", "exit", "--format", "csv", "--csv-safe"); r.out != "exit,events\n-13,7\n" {
		t.Errorf("a number is one in a spreadsheet, too: %q", r.out)
	}
	table := runOurs("-if", path, "--comm", "--format", "table").out
	if strings.ContainsAny(table, "\x1b") {
		t.Errorf("control characters: %q", table)
	}
	at := -1
	for line := range strings.Lines(table) {
		before, _, ok := strings.Cut(line, "terminal")
		if !ok {
			before, _, _ = strings.Cut(line, "pts0")
		}
		if n := terminal.Width(before); at >= 0 && n != at {
			t.Errorf("the columns are not below one another:\n%s", table)
			break
		} else {
			at = n
		}
	}
}

// TestTop keeps the largest of what has a largest.
func TestTop(t *testing.T) {
	const log = "../search/testdata/kernel-raw.log"
	all := runOurs("-if", log, "-k", "--summary").out
	lines := strings.SplitAfter(all, "\n")
	if got := runOurs("-if", log, "-k", "--summary", "--top", "2").out; got != strings.Join(lines[:7], "") {
		t.Errorf("%q of %q", got, all)
	}
	if got := runOurs("-if", log, "-k", "--summary", "--top", "2", "--format", "json").out; got != "{\"key\": \"names\", \"total\": 42}\n{\"key\": \"second key\", \"total\": 42}\n" {
		t.Errorf("JSON: %q", got)
	}
	for words, want := range map[string]string{
		"--top 3": "--top is for ", "-k --top 3": "--top is for ", "-t --top 3": "--top is for ", "-k --summary --top 0": "--top 0: a number from 1 on",
		"-k --summary --top -3": "--top -3: a number from 1 on", "--by key --top x": "--top x: a number",
		"--format xml": "--format xml: one of ", "--tty --summary --format csv": unimplemented,
	} {
		if r := runOurs(append([]string{"-if", log}, strings.Fields(words)...)...); r.code != 1 || !strings.HasPrefix(r.stderr, want) || r.out != "" {
			t.Errorf("%s: exit %d, %q, %q", words, r.code, r.stderr, r.out)
		}
	}
}

// TestFormatsOfNothing have no rows, and the exit code of aureport.
func TestFormatsOfNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "empty.log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{"csv": "time,node,key,success,exe,auid,event\n", "json": "", "table": nothing} {
		if r := runOurs("-if", path, "-k", "--format", format); r.code != 1 || r.out != want {
			t.Errorf("%s: exit %d, %q", format, r.code, r.out)
		}
	}
	if r := runOurs("-if", path, "--format", "json"); r.code != 0 || !strings.HasPrefix(r.out, `{"logs_first": null, "logs_last": null, "selected_first": null, `) {
		t.Errorf("the overview: exit %d, %q", r.code, r.out)
	}
	if r := runOurs("-if", path, "-t", "--format", "csv"); r.code != 0 || r.out != "log,first,last\n"+path+",,\n" {
		t.Errorf("the times: exit %d, %q", r.code, r.out)
	}
}
