package clickhouse

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// A server that loses power during an answer, and comes back with less, is asked again whether it has all, though other questions have met its broken connections: the answer
// is whole, or an error.
func TestRestartedDuringAnswer(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Shape{Replicas: 3})
	a := address(t, c)
	e := engineOf(t, a, "x")
	some := func(from, n int) *store.Table {
		t := store.NewTable()
		for i := from; i < from+n; i++ {
			ms := int64(i) * 10
			t.Add("a", storetest.Parse("a", fmt.Sprintf("node=a type=KERNEL msg=audit(%d.%03d:%d): text", storetest.Start.Unix()+ms/1000, ms%1000, i+1)))
		}
		return t
	}
	const n = 40000
	must(t, e.Append(t.Context(), dayLater(1, 0, some(0, n))))
	must(t, e.Append(t.Context(), dayLater(2, 1, some(n, 10))))
	for _, x := range c.Nodes {
		must(t, x.WaitFor("SELECT count() FROM "+a.Database+".events", fmt.Sprint(n+10)))
	}
	got := 0
	answered := func(*event.Event) error {
		if got++; got != 1 {
			return nil
		}
		time.Sleep(3 * time.Second) // a window is read ahead
		x, spoiled := c.Nodes[0], 0
		x.Kill()
		must(t, filepath.WalkDir(c.Dir, func(p string, _ fs.DirEntry, err error) error {
			if err == nil && strings.Contains(p, "clickhouse-1-1/") && strings.Contains(p, "/events/20261122-1_0_0_") && strings.HasSuffix(p, "/text.bin") {
				spoiled++
				return os.Truncate(p, 1) // it was not synced when the power went
			}
			return err
		}))
		if spoiled == 0 {
			t.Error("nothing was spoiled: the test shows nothing")
		}
		must(t, c.Nodes[1].Freeze()) // it takes long to fetch what is lost
		must(t, c.Nodes[2].Freeze())
		must(t, x.Start())
		for ok := 0; ok < 3; { // as others that ask meanwhile
			var one uint8
			if err := e.cluster.nodes[0].conn.QueryRow(t.Context(), "SELECT 1").Scan(&one); err == nil {
				ok++
			}
		}
		go func() {
			time.Sleep(5 * time.Second)
			_, _ = c.Nodes[1].Thaw(), c.Nodes[2].Thaw()
		}()
		return nil
	}
	err := store.Scan(t.Context(), e, &query.Query{}, answered)
	t.Logf("%d of %d events: %v", got, n+10, err)
	if err == nil && got != n+10 {
		t.Errorf("%d of %d events, and no error", got, n+10)
	}
}
