package harness

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestStockPair checks the harness itself with the two stock ends: what the stock
// sender is fed arrives in the stock server's log, in order.
func TestStockPair(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the stock daemons")
	}
	need.Root(t)
	need.Stock(t, "auditd")
	need.Stock(t, "audisp-remote")
	server, err := StartAuditdServer(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	var text bytes.Buffer
	if _, err := corpus(t, RecordedEnriched()).Write(&text, Make{Seed: 3, Records: 5000, Nodes: []string{"h1"}, Start: time.Now(), Step: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	sender, err := StartAudispRemote(t.TempDir(), server.Port, strings.NewReader(text.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := server.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	got, err := server.Lines()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sent (-) and stored (+) differ:\n%s", diff)
	}
}

// TestLoadOnStockServer checks the load generator against the stock server: all
// it says was acknowledged is in the server's log.
func TestLoadOnStockServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the stock daemon")
	}
	need.Root(t)
	need.Stock(t, "auditd")
	for _, shape := range [][2]int{{1, 1}, {3, 64}} {
		server, err := StartAuditdServer(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Kill()
		load := &Load{Addr: server.Addr(), Conns: shape[0], Window: shape[1], Records: 6000, Corpus: corpus(t, RecordedRaw()), Seed: 1}
		r, err := load.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Terminate(time.Minute); err != nil {
			t.Fatal(err)
		}
		lines, err := server.Lines()
		if err != nil {
			t.Fatal(err)
		}
		if r.Acked != 6000 || len(lines) != 6000 {
			t.Errorf("%d × %d: %d acknowledged, %d in the log, want 6000", shape[0], shape[1], r.Acked, len(lines))
		}
		if r.P50 <= 0 || r.P99 < r.P50 || r.Bytes <= 0 {
			t.Errorf("%d × %d: unlikely measurements %+v", shape[0], shape[1], r)
		}
	}
}
