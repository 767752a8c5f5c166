package normalize

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// accounts are the users that are known by name.
type accounts map[string]uint32

func (a accounts) UserID(name string) (uint32, bool) { id, ok := a[name]; return id, ok }

// eventsOf are the events of a log, in order of their first record.
func eventsOf(t *testing.T, log []byte) (all [][]record.Record) {
	t.Helper()
	at := map[string]int{}
	for line := range bytes.Lines(log) {
		var r record.Record
		if r.Parse(bytes.TrimSuffix(line, []byte("\n"))) != nil {
			continue
		}
		id := fmt.Sprintf("%s %d %d", r.Node, r.Ms(), r.Serial)
		i, ok := at[id]
		if !ok {
			i = len(all)
			at[id], all = i, append(all, nil)
		}
		all[i] = append(all[i], r)
	}
	return all
}

// told is one line of all that is said of an event.
func told(n *Normalizer, records []record.Record, labels bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", records[0].TypeName)
	if !n.Event(records, labels) {
		return b.String() + " unknown"
	}
	say := func(what, text string) {
		if text != "" {
			fmt.Fprintf(&b, " %s=%q", what, text)
		}
	}
	value := func(what string, v Value) {
		if n.Has(v) {
			say(what, fmt.Sprintf("%s:%s", n.Name(v), n.AppendText(nil, v)))
		}
	}
	say("node", string(n.AppendNode(nil, records[0].Node)))
	say("kind", n.Kind)
	value("session", n.Session)
	value("subject", n.Subject)
	value("as", n.Alias)
	say("subject kind", n.SubjectKind)
	say("action", string(n.Action))
	value("object", n.Object)
	if n.Has(n.Object) {
		say("in full", fmt.Sprintf("%s, %d", n.AppendFull(nil, n.Object), n.Is(n.Object)))
	}
	value("detail", n.Detail)
	value("second", n.Second)
	say("object kind", n.ObjectKind)
	say("how", string(n.How))
	value("key", n.Key)
	if success, ok := n.Succeeded(); ok {
		say("success", fmt.Sprint(success))
	}
	if labels {
		value("subject label", n.SubjectLabel())
		value("object label", n.ObjectLabel())
	}
	return b.String()
}

// TestEvents compares what is said of recorded events with the golden file, which the
// comparisons with the stock tool (package search) hold true.
func TestEvents(t *testing.T) {
	n := New(interpret.New(interpret.Config{}), accounts{"root": 0, "alice": 1000})
	var b strings.Builder
	seen := map[string]bool{}
	for _, file := range []string{
		"pkg/search/testdata/types.log", "pkg/search/testdata/fleet.log", "pkg/record/testdata/samples.log",
		"pkg/record/testdata/kernel-raw.log", "pkg/record/testdata/kernel-enriched.log",
	} {
		log, err := os.ReadFile(need.Source(t, file))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s\n", file)
		for _, records := range eventsOf(t, log) {
			for first, rest := Next(records); len(first) > 0; first, rest = Next(rest) {
				for _, labels := range []bool{false, true} {
					if line := told(n, first, labels); !seen[line] {
						seen[line] = true
						b.WriteString(line + "\n")
					}
				}
			}
		}
	}
	golden.Compare(t, "testdata/events.golden", b.String())
}

// TestNoRecords: nothing is known of nothing, and nothing is left from before.
func TestNoRecords(t *testing.T) {
	n := New(interpret.New(interpret.Config{}), nil)
	if n.Event(nil, true) || n.Kind != "" || n.Has(n.Subject) || n.Type(n.Object) != 0 {
		t.Errorf("%+v", n)
	}
	if first, rest := Next(nil); len(first)+len(rest) > 0 {
		t.Errorf("%v, %v", first, rest)
	}
}
