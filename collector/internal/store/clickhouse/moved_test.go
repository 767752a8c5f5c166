package clickhouse

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// rowIn makes a row of a collector's: records of one event, by words that are types and values.
func rowIn(of, sender string, batch uint64, serial string, records ...string) found {
	var text []string
	for _, r := range records {
		typ, value, _ := strings.Cut(r, " ")
		text = append(text, "node=h type="+typ+" msg=audit(1.000:"+serial+"): "+value)
	}
	ev := store.ParseText([]byte(strings.Join(text, "\n")+"\n\n"), false, []byte("h"), store.Origin{From: &event.Sender{Host: sender, Addr: netip.MustParseAddr("192.0.2.1")}})
	f := found{Found: store.FoundOf(ev), store: of}
	f.Batch = batch
	return f
}

// Of rows that several collectors have of one sender's event the answer has one, whole where each has a part; others stay.
func TestMoved(t *testing.T) {
	call, path, end := "SYSCALL arch=c000003e", "PATH item=0", "PROCTITLE proctitle=61"
	line := found{Found: store.Found{Host: "h", Text: []byte("----\n\n")}, store: "a"}
	other := line
	other.store = "b"
	for _, c := range []struct {
		name string
		rows []found
		want []string // the records of each event, by their types
	}{
		{"stored by both", []found{rowIn("a", "h", 1, "7", call, path, end), rowIn("b", "h", 9, "7", call, path, end)}, []string{"SYSCALL PATH PROCTITLE"}},
		{"a single record by both", []found{rowIn("a", "h", 1, "7", "LOGIN x"), rowIn("b", "h", 9, "7", "LOGIN x")}, []string{"LOGIN"}},
		{"the one's end is the other's beginning", []found{rowIn("a", "h", 1, "7", call, path), rowIn("b", "h", 9, "7", path, end)}, []string{"SYSCALL PATH PROCTITLE"}},
		{"nothing in common", []found{rowIn("a", "h", 1, "7", call, path), rowIn("b", "h", 9, "7", end)}, []string{"SYSCALL PATH PROCTITLE"}},
		{"twice in one store", []found{rowIn("a", "h", 1, "7", "LOGIN x"), rowIn("a", "h", 2, "7", "LOGIN x")}, []string{"LOGIN", "LOGIN"}},
		{"twice in one, once in another", []found{rowIn("a", "h", 1, "7", "LOGIN x"), rowIn("a", "h", 2, "7", "LOGIN x"), rowIn("b", "h", 2, "7", "LOGIN x")}, []string{"LOGIN", "LOGIN"}},
		{"of another sender", []found{rowIn("a", "h", 1, "7", call, path, end), rowIn("b", "forger", 9, "7", call, path, end)}, []string{"SYSCALL PATH PROCTITLE", "SYSCALL PATH PROCTITLE"}},
		{"of another serial", []found{rowIn("a", "h", 1, "7", "LOGIN x"), rowIn("b", "h", 9, "8", "LOGIN x")}, []string{"LOGIN", "LOGIN"}},
		{"lines that are no records", []found{line, other}, []string{"", ""}},
	} {
		for _, reverse := range []bool{false, true} {
			rows, want := slices.Clone(c.rows), slices.Clone(c.want)
			if reverse {
				slices.Reverse(rows)
				slices.Reverse(want)
			}
			var got []string
			m := &moving{reverse: reverse, give: func(f *store.Found) error {
				ev := store.ParseText(f.Text, f.Counted, []byte("h"), f.Origin)
				var types []string
				for _, r := range ev.Records {
					if r.IsRecord() {
						_, after, _ := strings.Cut(string(r.Raw), "type=")
						typ, _, _ := strings.Cut(after, " ")
						types = append(types, typ)
					}
				}
				got = append(got, strings.Join(types, " "))
				return nil
			}}
			for i := range rows {
				must(t, m.add(&rows[i]))
			}
			must(t, m.flush())
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s, reverse %v (-want +got):\n%s", c.name, reverse, d)
			}
		}
	}
	stop := &moving{give: func(*store.Found) error { return query.ErrStop }}
	for _, f := range []found{rowIn("a", "h", 1, "7", "LOGIN x"), rowIn("a", "h", 1, "8", "LOGIN x")} {
		if err := stop.add(&f); err != nil && err != query.ErrStop { //nolint:errorlint // it is given back as it is
			t.Error(err)
		}
	}
}
