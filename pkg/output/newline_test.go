package output

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// A peer of a collector can send records with newlines in them. But in --format raw, which is
// what came, nothing behind one begins a line, which would look like another host's record.
func TestNewlinesInRecords(t *testing.T) {
	const forged = "node=web1 type=USER_CMD msg=audit(1700000000.007:46): pid=1 forged=1"
	stamp := "msg=audit(1700000000.007:45): "
	for _, raw := range []string{
		"type=USER_CMD " + stamp + "pid=1 a=1\n" + forged,
		"type=USER_CMD " + stamp + "pid=1 exe=\"/bin/x\n" + forged + "\"",
		"type=USER_CMD " + stamp + "pid=1 msg='op=x acct=\"a\n" + forged + "\" res=success'",
		"type=USER_CMD\n" + forged + " " + stamp + "pid=1",
		"node=evil\n" + forged + " type=USER_CMD " + stamp + "pid=1",
		"type=SYSCALL " + stamp + "arch=c000003e syscall=257\n" + forged + " success=yes exit=3 key=\"k\n" + forged + "\" comm=\"c\n" + forged + "\"",
		"type=PATH " + stamp + "item=0 name=\"n\n" + forged + "\" nametype=NORMAL",
		"type=AVC " + stamp + "avc:  denied  { read\n" + forged + " } for pid=1 comm=\"c\n" + forged + "\"",
		"type=NEWTYPE " + stamp + "text\n" + forged,
		"\n" + forged,
	} {
		var r record.Record
		_ = r.Parse([]byte(raw))
		if r.Node == nil {
			r.Node = []byte("evil")
		}
		ev := &event.Event{Node: []byte("evil"), Ms: 1700000000007, Serial: 45, Records: []record.Record{r}}
		for _, f := range []Format{FormatDefault, FormatInterpret, FormatText, FormatCSV, FormatJSON, FormatLine} {
			var out bytes.Buffer
			w := NewWriter(&out, &Config{Format: f}, time.UTC)
			if err := w.Event(ev); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				if strings.HasPrefix(line, "node=web1") {
					t.Errorf("format %v of %q has a line of its own:\n%s", f, raw, out.String())
				}
			}
		}
	}
}
