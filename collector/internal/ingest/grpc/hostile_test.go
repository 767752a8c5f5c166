package grpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/ingest"
)

// Records without any text cost their sender nothing: a frame of 26 bytes holds 43,690 of
// them. They are acknowledged and counted, and nothing is stored.
func TestEmptyRecords(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{})
	a := f.dial("web1")
	a.open(1, 0)
	a.batch(0, 0, "", "x", "")
	a.batch(3, 0, make([]string, 43000)...)
	a.batch(43003, 0, "y")
	a.want("opened 0", "stored 43004")
	need.Wait(t, "both are taken", func() bool { return len(f.all()) >= 2 })
	if d := cmp.Diff([]string{"web1/x", "web1/y"}, f.all()); d != "" {
		t.Error(d)
	}
	if n := f.value("empty_records_total"); n != 43002 {
		t.Errorf("%v empty ones are counted", n)
	}
}

// However many calls are made on a connection, one DAEMON_ACCEPT and one DAEMON_CLOSE tell of it.
func TestCallsAreNotTold(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []string
	f := setupWith(t, Limits{}, func(c *Config) {
		c.Report = func(r Report) {
			mu.Lock()
			defer mu.Unlock()
			word := "accept"
			if r.Close {
				word = "close"
			}
			told = append(told, word+r.Op)
		}
	})
	a := f.dial("web1")
	for i := range byte(5) {
		a.open(i+1, 0)
		a.want("opened 0")
		_ = a.CloseSend()
		a.want("OK")
		var err error
		if a.Ingest_StreamClient, err = fleet.NewIngestClient(a.conn).Stream(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	_ = a.conn.Close()
	need.Wait(t, "its end is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(told, "close")
	})
	if d := cmp.Diff([]string{"accept", "close"}, told); d != "" {
		t.Error(d)
	}
}

// One host's key can't take all connections, from whatever addresses it comes.
func TestConnectionsOfAName(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{MaxPerName: 2})
	a, b := f.dial("web1"), f.dial("web1")
	a.open(1, 0)
	b.open(2, 0)
	a.want("opened 0")
	b.want("opened 0")
	third, err := tls.Dial("tcp", f.Addrs()[0].String(), f.config("web1"))
	if err == nil { // the client's handshake is over first
		defer third.Close()
		_, _ = io.ReadAll(third) // until it is closed
	}
	need.Wait(t, "it is refused", func() bool { return f.value("grpc_refused_total{dup}") == 1 })
	c := f.dial("web2")
	c.open(1, 0)
	c.want("opened 0")
	_ = a.conn.Close()
	need.Wait(t, "its place is free", func() bool { return f.Len() == 2 })
	d := f.dial("web1")
	d.open(3, 0)
	d.want("opened 0")
}

// A call that was ended by its peer waits for nothing, and counts with its name's until it
// does not: else who ends calls and makes others would have any number of them wait.
func TestEndedCallsWaitForNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{MaxStreams: 4})
	room := 0 // all there is
	for f.in.TryAcquire(intake.MaxPiece) {
		room++
	}
	conn := f.connect("web1")
	streams := func() int {
		f.Server.mu.Lock()
		defer f.Server.mu.Unlock()
		return len(f.names["web1"])
	}
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		for i := range byte(4) {
			s, err := fleet.NewIngestClient(conn).Stream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			c := &client{f: f, conn: conn, Ingest_StreamClient: s}
			c.open(i+1, 0)
			c.want("opened 0")
			c.batch(0, 0, "x")
		}
		cancel()
		need.Wait(t, "all have ended", func() bool { return streams() == 0 })
	}
	for range room {
		f.in.Release(intake.MaxPiece)
	}
	a := f.dial("web1")
	a.open(9, 0)
	a.batch(0, 0, "y")
	a.want("opened 0", "stored 1")
	need.Wait(t, "it is taken", func() bool { return len(f.all()) >= 1 })
	if d := cmp.Diff([]string{"web1/y"}, f.all()); d != "" {
		t.Error(d)
	}
}

// Two machines with one certificate, such as a copy of an image: nothing is lost, and it is
// said, once. A host that comes back, and leaves a dead connection behind, is no second one.
func TestTwoHostsOfOneName(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []string
	f := setupWith(t, Limits{}, func(c *Config) {
		c.Report = func(r Report) {
			mu.Lock()
			defer mu.Unlock()
			if r.Op != "" {
				told = append(told, r.Op+" "+r.Name)
			}
		}
	})
	open := func(id byte, boot string) *client {
		c := f.dial("web1")
		c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Open{Open: &fleet.Open{Version: 1, BootId: boot, StreamId: stream(id)}}})
		c.want("opened 0")
		return c
	}
	beat := func(c *client) {
		c.put(&fleet.StreamRequest{Message: &fleet.StreamRequest_Beat{Beat: &fleet.Beat{}}})
		c.want("alive")
	}
	dead := open(1, "boot1")
	beat(dead)
	open(2, "boot1") // another program of that host
	beat(dead)
	a := open(3, "boot2") // after a reboot
	beat(a)
	if n := f.value("grpc_two_hosts_total"); n != 0 {
		t.Errorf("a host that came back is taken for two, %v times: %v", n, told)
	}
	b := open(4, "boot3")
	for i := range uint64(3) {
		a.batch(i, 0, "a")
		a.want(fmt.Sprint("stored ", i+1))
		b.batch(i, 0, "b")
		b.want(fmt.Sprint("stored ", i+1))
	}
	_ = b.conn.Close()
	open(5, "boot3")
	beat(a)
	mu.Lock()
	defer mu.Unlock()
	if d := cmp.Diff([]string{"two-hosts web1"}, told); d != "" {
		t.Error(d)
	}
	if n := f.value("grpc_two_hosts_total"); n != 2 {
		t.Errorf("counted %v times", n)
	}
	need.Wait(t, "all are taken", func() bool { return len(f.all()) >= 6 })
	if n := len(f.all()); n != 6 {
		t.Errorf("%d records are stored: %q", n, f.all())
	}
}

// Much in flight is heavy, in however many batches: it shares a part of the journal's queue, so
// that who sends a record now and then does not wait behind it.
func TestHeavy(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{})
	for _, c := range []struct {
		records, size, inFlight int
		heavy                   bool
	}{
		{1, 100, 0, false}, {heavyBatch, 100, 0, false}, {heavyBatch + 1, 100, 0, true}, {1, heavyBytes, 0, true},
		{1, 100, heavyBytes, true}, {1, 100, heavyBytes - 103, false},
	} {
		texts := make([]string, c.records)
		for i := range texts {
			texts[i] = strings.Repeat("x", c.size)
		}
		m := &fleet.RecordBatch{Records: frame(t, texts...)}
		size, err := ingest.Size(m.GetRecords())
		if err != nil {
			t.Fatal(err)
		}
		p, err := (&session{all: f.Server, inFlight: c.inFlight}).unpack(m, size)
		if err != nil || p.Heavy != c.heavy {
			t.Errorf("%+v: %v, %v", c, p.Heavy, err)
		}
	}
}

// Two copies of a machine that was copied while it ran have the same stream, and take it from
// one another: said, too. A host that moves is not taken for two.
func TestCopiesTakeTheStreamByTurns(t *testing.T) {
	t.Parallel()
	f := setup(t, Limits{})
	take := func(addr string) *client {
		c := f.dialFrom(addr, "web1")
		c.open(1, 0)
		c.want("opened 0")
		return c
	}
	home := take("127.0.0.1")
	away := take("127.0.0.2")
	home.want("Aborted")
	again := take("127.0.0.2")
	away.want("Aborted")
	other := take("127.0.0.3")
	again.want("Aborted")
	if n := f.value("grpc_two_hosts_total"); n != 0 {
		t.Errorf("a host that moves is taken for two")
	}
	take("127.0.0.2")
	other.want("Aborted")
	if n := f.value("grpc_two_hosts_total"); n != 1 {
		t.Errorf("two that take a stream by turns are told %v times", n)
	}
}
