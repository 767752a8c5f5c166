package psktls

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"strconv"
	"testing"
)

// TestBulkAllocatesNothing: neither end allocates for a record.
func TestBulkAllocatesNothing(t *testing.T) {
	for _, suite := range DefaultSuites() {
		config := Config{Suites: []Suite{suite}, Groups: []Group{X25519}}
		client, server := pair(t, config, config)
		text, buf := make([]byte, 9000), make([]byte, 9000)
		if got := testing.AllocsPerRun(200, func() {
			if _, err := client.Write(text); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(server, buf); err != nil {
				t.Error(err)
			}
		}); got != 0 {
			t.Errorf("%v: %v allocations a record", suite, got)
		}
	}
}

// TestLengthsAllocateNothing: what a stranger says of lengths costs no memory. One end keeps
// its buffer for a record, and what has really come.
func TestLengthsAllocateNothing(t *testing.T) {
	for name, in := range map[string][]byte{
		"a message of 16 KiB that does not come": hs([]byte{messageClientHello, 0, 0x40, 0, 3, 3}),
		"a record that does not come":            {recordHandshake, 3, 1, 0x40, 0},
		"nothing":                                nil,
	} {
		const rounds = 50
		config := withKey(Config{})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			if err := Server(&replayed{in: bytes.NewReader(in)}, config).Handshake(context.Background()); err == nil {
				t.Fatal("it has shaken hands")
			}
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / rounds; got > 24<<10 {
			t.Errorf("%s: %d bytes", name, got)
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	for _, group := range []Group{X25519, X25519MLKEM768} {
		b.Run(group.String(), func(b *testing.B) {
			config := withKey(Config{Groups: []Group{group}})
			b.ReportAllocs()
			for b.Loop() {
				x, y := net.Pipe()
				client, server := Client(x, config), Server(y, config)
				if cerr, serr := shake(client, server); cerr != nil || serr != nil {
					b.Fatal(cerr, serr)
				}
				x.Close()
				y.Close()
			}
		})
	}
}

func BenchmarkBulk(b *testing.B) {
	for _, suite := range DefaultSuites() {
		for _, size := range []int{300, 8970, 16384} {
			b.Run(suite.String()+"/"+strconv.Itoa(size), func(b *testing.B) {
				config := Config{Suites: []Suite{suite}, Groups: []Group{X25519}}
				client, server := pair(b, config, config)
				done := make(chan error, 1)
				go func() { _, err := io.Copy(io.Discard, server); done <- err }()
				text := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := client.Write(text); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				_ = client.CloseWrite()
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
