package lines

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// readAll reads a stream given in pieces, and returns what the pump would see.
func readAll(pieces [][]byte) (got []string, bad []string, err error) {
	out := make(chan *Chunk)
	r := newReader(out, func(at int64, why string) { bad = append(bad, fmt.Sprint(at, " ", why)) })
	done := make(chan error, 1)
	go func() {
		defer close(out)
		ctx := context.Background()
		for _, p := range pieces {
			for len(p) > 0 {
				if err := r.acquire(ctx); err != nil {
					done <- err
					return
				}
				n := copy(r.room(), p)
				p = p[n:]
				if err := r.filled(ctx, n, false, Position{}); err != nil {
					done <- err
					return
				}
			}
		}
		if err := r.acquire(ctx); err != nil {
			done <- err
			return
		}
		done <- r.filled(ctx, 0, true, Position{})
	}()
	for c := range out {
		for _, l := range c.Lines {
			got = append(got, string(l))
		}
		for _, k := range c.Records {
			got = append(got, fmt.Sprintf("%d:%s", k.Type, k.Text))
		}
		r.free <- c
	}
	return got, bad, <-done
}

func cut(rt *rapid.T, b []byte) [][]byte {
	var pieces [][]byte
	for len(b) > 0 {
		n := rapid.IntRange(1, len(b)).Draw(rt, "piece")
		pieces = append(pieces, b[:n])
		b = b[n:]
	}
	return pieces
}

func frame(version, typ uint32, text string, padded bool) []byte {
	var b []byte
	for _, w := range []uint32{version, 16, typ, uint32(len(text))} {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	b = append(b, text...)
	if padded {
		b = append(b, make([]byte, binaryRecord-len(b))...)
	}
	return b
}

// However the stream is cut, the same records come out.
func TestStreamCutAnywhere(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom([]string{"lines", "lines without the last newline", "binary", "binary padded", "binary of version 0", "binary of version 0 padded"}).Draw(rt, "kind")
		texts := rapid.SliceOfN(rapid.StringMatching(`[a-zA-Z0-9=" ]{12,60}`), 1, 20).Draw(rt, "texts")
		var stream bytes.Buffer
		var want []string
		padded := strings.HasSuffix(kind, "padded")
		for i, text := range texts {
			switch {
			case strings.HasPrefix(kind, "lines"):
				stream.WriteString(text)
				if i < len(texts)-1 || kind == "lines" {
					stream.WriteString(rapid.SampledFrom([]string{"\n", "\n\n"}).Draw(rt, "end"))
				}
				want = append(want, text)
			case strings.HasPrefix(kind, "binary of version 0"):
				stream.Write(frame(0, 1300, text+"\x00", padded))
				want = append(want, "1300:"+text)
			default:
				stream.Write(frame(1, 1300, text, padded))
				stream.Write(frame(1, 1320, "type=EOE msg=audit(1.000:1): ", padded))
				want = append(want, text)
			}
		}
		got, bad, err := readAll(cut(rt, stream.Bytes()))
		if err != nil || len(bad) > 0 {
			rt.Fatalf("%v, %v", err, bad)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// What stock auditd 3.0.9 wrote to a plugin with format = binary: 8986 bytes a
// record, whatever its size says.
func TestStockBinary(t *testing.T) {
	text := "node=nodex type=DAEMON_START msg=audit(1795338317.956:1494): op=start ver=3.0.9 format=raw kernel=6.18.44 auid=4294967295 pid=19499 uid=0 ses=4294967295 res=success"
	end := "node=nodex type=DAEMON_END msg=audit(1795338319.241:1495): op=terminate auid=0 uid=0 ses=4294967295 pid=19497 res=success"
	stream := append(frame(1, 1200, text, true), frame(1, 1201, end, true)...)
	if len(stream) != 2*8986 {
		t.Fatalf("%d bytes", len(stream))
	}
	got, bad, err := readAll([][]byte{stream})
	if err != nil || len(bad) > 0 {
		t.Fatal(err, bad)
	}
	if diff := cmp.Diff([]string{text, end}, got); diff != "" {
		t.Error(diff)
	}
}

func TestBadInput(t *testing.T) {
	long := strings.Repeat("x", chunkSize)
	for _, c := range []struct {
		name   string
		stream string
		want   []string
		bad    []string
		err    error
	}{
		{"empty", "", nil, nil, nil},
		{"a short line", "a", []string{"a"}, nil, nil},
		{"a line too long", "one\n" + long + "yz\ntwo\n", []string{"one", "two"}, []string{"4 a line longer than 262144 bytes"}, nil},
		{"too long at the end", "one\n" + long, []string{"one"}, []string{"4 a line longer than 262144 bytes"}, nil},
		{"the longest line", long[1:] + "\n", []string{long[1:]}, nil, nil},
		{"half a record", string(frame(1, 1300, "whole record one", false)) + string(frame(1, 1300, "half", false)[:18]), []string{"whole record one"}, []string{"32 the input ends within a record"}, nil},
		{"a length that lies", string(frame(1, 1300, "whole record one", false)) + "\x01\x00\x00\x00\x10\x00\x00\x00\x14\x05\x00\x00\xff\xff\xff\xff", []string{}, nil, errBinary},
		{"another version", string(frame(0, 1300, "whole record one", false)) + string(frame(1, 1300, "two", false)), []string{}, nil, errBinary},
		{"binary, then not", string(frame(1, 1300, "whole record one", true)) + "type=SYSCALL msg=audit(1.000:1): ", []string{}, nil, errBinary},
	} {
		got, bad, err := readAll([][]byte{[]byte(c.stream)})
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if c.err == nil {
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: %s", c.name, diff)
			}
		} else if !strings.Contains(err.Error(), "byte ") {
			t.Errorf("%s: %v does not say where", c.name, err)
		}
		if diff := cmp.Diff(c.bad, bad); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("type=SYSCALL msg=audit(1.000:1): a=b\ntype=X"), 3)
	f.Add(append(frame(1, 1300, "one", true), frame(1, 1300, "two", true)...), 100)
	f.Add(append(frame(0, 1300, "one", false), frame(0, 1300, "two", false)...), 17)
	f.Add([]byte("\x00\x00\x00\x00\x10\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), 5)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		size = 1 + max(size, -size)%4096
		if size < 1 {
			size = 1
		}
		var pieces [][]byte
		for b := stream; len(b) > 0; {
			n := min(size, len(b))
			pieces = append(pieces, b[:n])
			b = b[n:]
		}
		whole, _, err1 := readAll([][]byte{stream})
		cut, _, err2 := readAll(pieces)
		if (err1 == nil) != (err2 == nil) {
			t.Fatalf("in one piece %v, in pieces of %d %v", err1, size, err2)
		}
		if err1 == nil && cmp.Diff(whole, cut) != "" {
			t.Fatalf("in pieces of %d: %s", size, cmp.Diff(whole, cut))
		}
		total := 0
		for _, l := range whole {
			if strings.Contains(l, "\n") && !looksBinary(stream) {
				t.Fatalf("a line with a newline: %q", l)
			}
			total += len(l)
		}
		if total > len(stream)+5*len(whole) {
			t.Fatalf("%d bytes of records out of %d", total, len(stream))
		}
	})
}

func TestReadStreamEndsWithContext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	open := func(f *os.File) *Input {
		in, err := Open(Config{Stream: f})
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	done := make(chan error, 1)
	in := open(r)
	go func() { done <- in.Run(ctx, context.Background(), Position{}) }()
	fmt.Fprintln(w, "type=A msg=audit(1.000:1): ")
	c := <-in.Chunks()
	if len(c.Lines) != 1 {
		t.Errorf("%d lines", len(c.Lines))
	}
	in.Release(c)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a read that waits: %v, want it cancelled", err)
	}
	r2, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	w2.Close()
	if err := open(r2).Run(context.Background(), context.Background(), Position{}); !errors.Is(err, io.EOF) {
		t.Errorf("at its end: %v, want io.EOF", err)
	}
}
