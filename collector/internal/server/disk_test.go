package server

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// sendOne sends a record and returns its reply.
func sendOne(t *testing.T, c net.Conn, seq uint32, rec []byte) remote.Frame {
	t.Helper()
	if _, err := c.Write(remote.Append(nil, remote.Message, seq, rec)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, remote.HeaderSize, remote.MaxFrame)
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatalf("record %d: %v", seq, err)
	}
	n := int(buf[10]) | int(buf[11])<<8
	buf = buf[:remote.HeaderSize+n]
	if _, err := io.ReadFull(c, buf[remote.HeaderSize:]); err != nil {
		t.Fatalf("record %d: %v", seq, err)
	}
	f, _, err := new(remote.Decoder).Decode(buf)
	if err != nil || f.Seq != seq {
		t.Fatalf("record %d: reply %v %d, %v", seq, f.Type, f.Seq, err)
	}
	return f
}

// A disk that is really full: senders are told so on a connection that stays,
// and once there is room again records are stored without anybody's doing.
// What was acknowledged before, meanwhile and after is there, once.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	need.Tmpfs(t, disk, "size=96m")
	cfg := testConfig(filepath.Join(disk, "store"))
	cfg.API = shortDir(t) + ".sock"
	r := start(t, cfg)
	c := r.dial()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	body := strings.Repeat("x", 8000)
	acked := map[string]bool{}
	seq := uint32(0)
	next := func() (string, remote.Type) {
		seq++
		rec := userRecord("web1", int(seq)) + " " + body
		f := sendOne(t, c, seq, []byte(rec))
		if f.Type == remote.Ack {
			acked[rec] = true
		}
		return rec, f.Type
	}
	for range 100 {
		if _, got := next(); got != remote.Ack {
			t.Fatalf("with room on the disk: %v", got)
		}
	}
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	told := false
	for i := 0; i < 40000 && !told; i++ { // up to the end of the segment there may be room
		_, got := next()
		told = got == remote.DiskFull
		if got != remote.Ack && got != remote.DiskFull {
			t.Fatalf("on a full disk: %v", got)
		}
	}
	if !told {
		t.Fatal("a full disk was never told")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	eventually(t, "stored again", func() bool { _, got := next(); return got == remote.Ack })
	r.stop()
	files, err := OpenReadOnly(cfg.Store, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	err = files.Scan(context.Background(), &query.Query{Nodes: []string{"web1"}}, func(ev *event.Event) error {
		for i := range ev.Records {
			raw := string(ev.Records[i].Raw)
			if !acked[raw] {
				t.Errorf("found once too often, or never acknowledged: %.90s", raw)
			}
			delete(acked, raw)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(acked) > 0 {
		t.Errorf("%d acknowledged records are not found", len(acked))
	}
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(bytes.Repeat([]byte{1}, size)); err != nil {
			size /= 2
		}
	}
}
