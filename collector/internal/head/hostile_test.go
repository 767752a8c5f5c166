package head

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// hostNamed is what is known of a host.
func hostNamed(t testing.TB, h *Head, name string) store.Host {
	t.Helper()
	for _, x := range h.Hosts() {
		if x.Name == name {
			return x
		}
	}
	t.Fatalf("no host %q", name)
	return store.Host{}
}

// far is a record of the year 5138.
func far(node string, serial int) string {
	return fmt.Sprintf("node=%s type=SYSCALL msg=audit(99999999999.000:%d): arch=c000003e syscall=59", node, serial)
}

// Another address adds a PATH to an event of web1 while that is open, ends it with a
// PROCTITLE, and sends a record of the year 5138, after which all are late; so does
// a program on web1 itself. The event is what web1 sent of it.
func TestForgedRecords(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), nil)
	const own, other = 1, 2
	honest := []string{
		line("web1", 1, 7, "SYSCALL", "arch=c000003e syscall=257 success=yes items=1 exe=\"/usr/bin/cat\""),
		line("web1", 1, 7, "PATH", "item=0 name=\"/etc/motd\" nametype=NORMAL"),
		line("web1", 1, 7, "PROCTITLE", "proctitle=\"cat\""),
	}
	r.put(t, plain(own, honest[0]))
	r.put(t, plain(other, far("web1", 8)))
	r.put(t, plain(own, far("web1", 9)))
	r.put(t, plain(other, line("web1", 1, 7, "PATH", "item=0 name=\"/etc/shadow\" nametype=NORMAL"), line("web1", 1, 7, "PROCTITLE", "proctitle=\"evil\"")))
	r.put(t, plain(own, honest[1]))
	r.put(t, plain(other, line("web1", 5000, 7, "PROCTITLE", "proctitle=\"later\"")))
	r.put(t, plain(own, honest[2]))
	r.settle(t)
	check := func(why string, h *Head) {
		t.Helper()
		got := texts(t, h, &query.Query{Nodes: []string{"web1"}, Serial: 7, HasSerial: true})
		whole := 0
		for _, text := range got {
			n := 0
			for _, raw := range honest {
				if strings.Contains(text, raw) {
					n++
				}
			}
			switch {
			case n == len(honest) && !strings.Contains(text, "shadow") && !strings.Contains(text, "evil"):
				whole++
			case n > 0:
				t.Errorf("%s: a part of the event: %q", why, text)
			}
		}
		if whole != 1 || len(got) != 3 {
			t.Errorf("%s: the event is there %d times of %d: %q", why, whole, len(got), got)
		}
		if at := hostNamed(t, h, "web1").LastEventMs; at != time.Unix(1795334400+5000, 0).UnixMilli() {
			t.Errorf("%s: the last event is of %v", why, time.UnixMilli(at))
		}
	}
	check("stored", r.h)
	waitFor(t, "far", slices.Sorted(slices.Values([]string{far("web1", 8), far("web1", 9), honest[0], honest[1], honest[2],
		line("web1", 1, 7, "PATH", "item=0 name=\"/etc/shadow\" nametype=NORMAL"), line("web1", 1, 7, "PROCTITLE", "proctitle=\"evil\""),
		line("web1", 5000, 7, "PROCTITLE", "proctitle=\"later\"")})), r.h)
	need.Wait(t, "two events of the far future are counted", func() bool { return r.h.Stats().FarFuture == 2 })
	check("with those of the far future", r.h)
}

// Events that are open when the collector stops are put together by sender after
// its start, too.
func TestForgedRecordsAcrossRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustRig(t, dir, nil)
	r.put(t, plain(1, line("web1", 1, 7, "SYSCALL", "syscall=257")), plain(2, line("web1", 1, 7, "PATH", "name=\"/etc/shadow\"")))
	r.settle(t)
	r.close()
	r = mustRig(t, dir, nil)
	r.put(t, plain(1, line("web1", 1, 7, "PROCTITLE", "proctitle=\"cat\"")))
	r.settle(t)
	got := texts(t, r.h, &query.Query{Nodes: []string{"web1"}, Batches: true}) // complete ones
	if len(got) != 1 || strings.Contains(got[0], "shadow") || !strings.Contains(got[0], "syscall=257") {
		t.Errorf("after a restart: %q", got)
	}
}

// 20,000 invented names take no identity from those who come later without one.
func TestInventedNames(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.MaxHosts, o.NewNames = 2000, -1 })
	b := plain(1)
	for i := range 3000 {
		b.Records = append(b.Records, journal.Record{Raw: []byte(line(fmt.Sprintf("invented-%d", i), i, 1, "USER_LOGIN", "x"))})
	}
	r.put(t, b)
	// Two that do not say who they are, in the same millisecond and with one serial.
	for part, typ := range []string{"SYSCALL", "PATH", "PROCTITLE"} {
		for _, from := range []int{21, 22} {
			raw := fmt.Sprintf("type=%s msg=audit(1795334400.000:5): part=%d of=%d", typ, part, from)
			r.put(t, plain(uint64(from), raw))
		}
	}
	r.settle(t)
	for _, from := range []int{21, 22} {
		name := fmt.Sprintf("10.0.0.%d", from)
		got := texts(t, r.h, &query.Query{Nodes: []string{name}})
		if len(got) != 1 || strings.Count(got[0], fmt.Sprintf("of=%d", from)) != 3 || strings.Count(got[0], "part=") != 3 {
			t.Errorf("%s: %q", name, got)
		}
		if x := hostNamed(t, r.h, name); x.Records != 3 || x.First != storetest.Start {
			t.Errorf("%s is known as %+v", name, x)
		}
	}
	if got := texts(t, r.h, &query.Query{Nodes: []string{"invented-2999"}}); len(got) != 1 {
		t.Errorf("a host without a place of its own: %q", got)
	}
}
