package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// flushModes are those of auditd.conf(5).
var flushModes = []string{"sync", "data", "incremental", "incremental_async", "none"}

// modes compares every flush mode of the collector with the same of the stock
// server, from one sender to many.
func (b *bench) modes() error {
	b.printf("## Every flush mode\n\nBoth with the same `flush`; records/s, and our CPU to stock's. Median of %d.\n\n", b.rounds)
	b.printf("| flush | load | stock records/s | ours | ratio | stock CPU s/M | ours | ratio |\n|---|---|---|---|---|---|---|---|\n")
	for _, flush := range flushModes {
		slow := 1
		if flush == "sync" || flush == "data" {
			slow = 10 // a sync a record, at the stock server
		}
		for _, s := range []shape{{1, 1, 10_000 / slow}, {50, 256, 200_000}, {200, 1, 40_000}} {
			st, us := stockServer(flush), ourServer(flush)
			stock := s
			if s.conns > 1 {
				stock.records /= 2 * slow
			}
			m := b.medians([]serverKind{st}, stock)
			m[us.name] = b.medians([]serverKind{us}, s)[us.name]
			if b.ctx.Err() != nil {
				return b.ctx.Err()
			}
			x, y := m[st.name], m[us.name]
			b.printf("| %s | %d × %d | %s | %s | %s | %.1f | %.1f | %s |\n", flush, s.conns, s.window,
				count(x.rate), count(y.rate), times(y.rate/x.rate), x.cpu, y.cpu, times(y.cpu/x.cpu))
		}
	}
	b.printf("\n")
	return nil
}

// connections shows what a connection costs that sends little.
func (b *bench) connections() error {
	b.printf("## Connections\n\nEach has sent one record and has its acknowledgement, and stays.\n\n| connections | memory before | with them | each |\n|---|---|---|---|\n")
	for _, n := range []int{1000, 9000} {
		if err := b.hold(n); err != nil {
			return err
		}
	}
	b.printf("\n")
	return nil
}

func (b *bench) hold(n int) (returned error) {
	dir, err := b.scratch("connections")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: dir, Args: []string{"--tcp-listen-queue", "1024", "--max-connections", "20000"}})
	if err != nil {
		return err
	}
	defer c.Kill()
	before, err := c.Usage()
	if err != nil {
		return err
	}
	sockets := make([]net.Conn, 0, n)
	defer func() {
		for _, s := range sockets {
			s.Close()
		}
	}()
	for i := range n {
		s, err := b.oneRecord(i, c.Addr())
		if s != nil {
			sockets = append(sockets, s)
		}
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, n, err)
		}
	}
	after, err := c.Usage()
	if err != nil {
		return err
	}
	b.printf("| %s | %s | %s | %.1f KiB |\n", count(n), mib(before.RSS), mib(after.RSS), float64(after.RSS-before.RSS)/float64(n)/1024)
	return nil
}

// oneRecord connects from the i-th address, sends a record and waits for its reply.
func (b *bench) oneRecord(i int, addr string) (net.Conn, error) {
	from := netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(1 + i%250)})
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: 10 * time.Second}
	s, err := d.DialContext(b.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("node=host%04d type=USER_LOGIN msg=audit(%d.000:%d): pid=1 uid=0 msg='op=login res=success'", i, time.Now().Unix(), i+1)
	if _, err := s.Write(remote.Append(nil, remote.Message, 1, []byte(text))); err != nil {
		return s, err
	}
	if err := s.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return s, err
	}
	reply := make([]byte, remote.HeaderSize)
	if _, err := s.Read(reply); err != nil {
		return s, err
	}
	f, _, err := new(remote.Decoder).Decode(reply)
	if err == nil && f.Type != remote.Ack {
		err = fmt.Errorf("got %v instead of an ACK", f.Type)
	}
	return s, err
}

// machineLimits are what the same bytes cost this machine without any of us: one
// sequential write with a sync at the end, one with a sync every megabyte, and
// zstd at the level that the store uses.
func (b *bench) machineLimits() error {
	file := filepath.Join(b.dir, "limits.log")
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	made, err := b.raw.Write(f, harness.Make{Seed: 5, Bytes: 200 << 20, Nodes: []string{"web1"}, Start: time.Unix(1763600000, 0), Step: time.Millisecond})
	if err := f.Close(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	b.printf("## The machine's own limits\n\n%s records, %s of text.\n\n| what | took | MB/s | as records/s |\n|---|---|---|---|\n", count(made.Records), mib(made.Bytes))
	row := func(what string, took time.Duration) {
		b.printf("| %s | %s | %.0f | %s |\n", what, short(took), float64(len(text))/1e6/took.Seconds(), count(float64(made.Records)/took.Seconds()))
	}
	for _, w := range []struct {
		what  string
		every int
	}{{"sequential write, one sync", len(text)}, {"sequential write, a sync every MiB", 1 << 20}, {"sequential write, a sync every 64 KiB", 64 << 10}} {
		took, err := b.writeSynced(text, w.every)
		if err != nil {
			return err
		}
		row(w.what, took)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	begin, packed := time.Now(), 0
	var out []byte
	for rest := text; len(rest) > 0; {
		n := min(1<<20, len(rest))
		out = enc.EncodeAll(rest[:n], out[:0])
		packed, rest = packed+len(out), rest[n:]
	}
	row(fmt.Sprintf("zstd, frames of 1 MiB, one core: %.1f %% of the text", 100*float64(packed)/float64(len(text))), time.Since(begin))
	b.printf("\n")
	return context.Cause(b.ctx)
}

func (b *bench) writeSynced(text []byte, every int) (took time.Duration, returned error) {
	path := filepath.Join(b.dir, "limits.out")
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	defer f.Close()
	begin := time.Now()
	for rest := text; len(rest) > 0; {
		n := min(every, len(rest))
		if _, err := f.Write(rest[:n]); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return time.Since(begin), nil
}
