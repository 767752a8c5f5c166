package remote_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/proto/remote"
)

// describe is how FORMAT.md writes a frame or an error.
func describe(f remote.Frame, err error) string {
	switch {
	case errors.Is(err, remote.ErrVersion):
		return "ErrVersion"
	case errors.Is(err, remote.ErrLength):
		return "ErrLength"
	case errors.Is(err, remote.ErrLineTooLong):
		return "ErrLineTooLong"
	case err != nil:
		return err.Error()
	case f.ASCII:
		return fmt.Sprintf("line %q", f.Payload)
	}
	return fmt.Sprintf("%v 0x%08x %q", f.Type, f.Seq, f.Payload)
}

func TestFormatExamples(t *testing.T) {
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for _, block := range strings.Split(string(text), "```hex\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		var raw []byte
		for _, line := range strings.Split(strings.TrimSpace(block), "\n") {
			want, isResult := strings.CutPrefix(line, "= ")
			if !isResult {
				b, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				raw = append(raw, b...)
				continue
			}
			f, n, err := new(remote.Decoder).Decode(raw)
			if got := describe(f, err); got != want {
				t.Errorf("got %s, FORMAT.md says %s", got, want)
			}
			if err == nil && n != len(raw) {
				t.Errorf("%s: took %d of %d bytes", want, n, len(raw))
			}
			examples++
			raw = raw[:0]
		}
	}
	if examples != 13 {
		t.Errorf("FORMAT.md has %d examples, expected 13", examples)
	}
}

func TestDecode(t *testing.T) {
	msg := func(t remote.Type, seq uint32, p string) string {
		return string(remote.Append(nil, t, seq, []byte(p)))
	}
	long := strings.Repeat("z", remote.MaxLength)
	for _, c := range []struct {
		name, in, want string
		n              int
	}{
		{"nothing", "", "more", 0},
		{"magic's first bytes", "\xfe\x00\x00", "more", 0},
		{"magic", "\xfe\x00\x00\xff", "more", 0},
		{"header short of its length", msg(0, 1, "ab")[:11], "more", 0},
		{"header", msg(0, 1, "ab")[:16], "more", 0},
		{"message", msg(0, 1, "ab"), `MESSAGE 0x00000001 "ab"`, 18},
		{"newline", msg(0, 1, "ab\n"), `MESSAGE 0x00000001 "ab"`, 19},
		{"two newlines", msg(0, 1, "ab\n\n"), `MESSAGE 0x00000001 "ab\n"`, 20},
		{"only a newline", msg(0, 1, "\n"), `MESSAGE 0x00000001 ""`, 17},
		{"no text", msg(0, 1, ""), `MESSAGE 0x00000001 ""`, 16},
		{"NUL", msg(0, 1, "a\x00b"), `MESSAGE 0x00000001 "a\x00b"`, 19},
		{"unknown fatal", msg(0x60000009, 1, "x"), `0x60000009 0x00000001 "x"`, 17},
		{"version 1", "\xfe\x00\x00\xff\x01", "ErrVersion", 0},
		{"message version 1", "\xfe\x00\x00\xff\x00\x01" + msg(0, 1, "")[6:], `MESSAGE 0x00000001 ""`, 16},
		{"length 8970", msg(0, 1, long), fmt.Sprintf("MESSAGE 0x00000001 %q", long), 8986},
		{"length 8971", "\xfe\x00\x00\xff\x00\x00\x00\x00\x00\x00\x0b\x23", "ErrLength", 0},
		{"length 65535", "\xfe\x00\x00\xff\x00\x00\x00\x00\x00\x00\xff\xff", "ErrLength", 0},
		{"line", "ab\ncd", `line "ab"`, 3},
		{"empty line", "\nab\n", `line ""`, 1},
		{"carriage return", "ab\r\n", `line "ab\r"`, 4},
		{"NUL in a line", "a\x00b\n", `line "a\x00b"`, 4},
		{"part of a line", "ab", "more", 0},
		{"line like the magic", "\xfe\x00\x00\xfe\n", `line "\xfe\x00\x00\xfe"`, 5},
		{"line of 8970", long + "\n", fmt.Sprintf("line %q", long), 8971},
		{"line of 8970, no newline yet", long, "more", 0},
		{"line of 8971", long + "z\n", "ErrLineTooLong", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, n, err := new(remote.Decoder).Decode([]byte(c.in))
			got := describe(f, err)
			if n == 0 && err == nil {
				got = "more"
			}
			if got != c.want || n != c.n {
				t.Errorf("got %s taking %d, want %s taking %d", got, n, c.want, c.n)
			}
		})
	}
}

func TestTypeBits(t *testing.T) {
	type bits struct{ Reply, Fatal, Warning bool }
	for typ, want := range map[remote.Type]bits{
		remote.Message:   {},
		remote.Heartbeat: {},
		remote.Ack:       {Reply: true},
		remote.Ending:    {Reply: true},
		remote.DiskLow:   {Reply: true, Warning: true},
		remote.DiskFull:  {Reply: true, Fatal: true},
		remote.DiskError: {Reply: true, Fatal: true},
		0x70000000:       {Reply: true, Fatal: true, Warning: true},
	} {
		if got := (bits{typ.IsReply(), typ.IsFatal(), typ.IsWarning()}); got != want {
			t.Errorf("%v: %+v, want %+v", typ, got, want)
		}
	}
}

func TestAppendCuts(t *testing.T) {
	long := bytes.Repeat([]byte("z"), 70000)
	f, n, err := new(remote.Decoder).Decode(remote.Append(nil, remote.Message, 1, long))
	if err != nil || n != remote.MaxFrame || len(f.Payload) != remote.MaxLength {
		t.Errorf("took %d, %d bytes of text, %v", n, len(f.Payload), err)
	}
	if l := remote.AppendLine(nil, long); len(l) != remote.MaxLength+1 {
		t.Errorf("line of %d bytes", len(l))
	}
}

// drain decodes buf as a stream cut at the given places and describes what came out.
func drain(stream []byte, cuts func(left int) int) []string {
	var (
		out        []string
		d          remote.Decoder
		start, end int
	)
	for {
		f, n, err := d.Decode(stream[start:end:end])
		if err != nil {
			return append(out, describe(f, err))
		}
		if n > 0 {
			out = append(out, describe(f, nil))
			start += n
			continue
		}
		if end == len(stream) {
			return append(out, fmt.Sprintf("left %d", end-start))
		}
		end += cuts(len(stream) - end)
	}
}

func whole(left int) int { return left }

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			stream []byte
			want   []string
		)
		for i := rapid.IntRange(0, 12).Draw(t, "frames"); i > 0; i-- {
			text := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "text")
			if rapid.Bool().Draw(t, "long") {
				text = append(text, bytes.Repeat([]byte{'l'}, rapid.IntRange(0, remote.MaxLength-len(text)).Draw(t, "fill"))...)
			}
			if rapid.Bool().Draw(t, "ascii") {
				text = bytes.ReplaceAll(text, []byte("\n"), []byte("\xfe"))
				text = bytes.TrimPrefix(text, []byte("\xfe\x00\x00\xff"))
				stream = remote.AppendLine(stream, text)
				want = append(want, describe(remote.Frame{Payload: text, ASCII: true}, nil))
				continue
			}
			typ := remote.Type(rapid.Uint32().Draw(t, "type"))
			seq := rapid.Uint32().Draw(t, "seq")
			stream = remote.Append(stream, typ, seq, text)
			want = append(want, describe(remote.Frame{Type: typ, Seq: seq, Payload: bytes.TrimSuffix(text, []byte("\n"))}, nil))
		}
		want = append(want, "left 0")
		cuts := func(left int) int { return rapid.IntRange(1, min(left, 700)).Draw(t, "cut") }
		if diff := cmp.Diff(want, drain(stream, cuts)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\xfe\x00\x00\xff\x00\x00\x00\x00\x00\x00\x02\x00\x01\x00\x00\x00ab"), uint8(1))
	f.Add([]byte("abc\r\n\xfe\x00\x00\n\xfe\x00\x00\xff\x01"), uint8(3))
	f.Add(append(bytes.Repeat([]byte("z"), 8970), '\n'), uint8(200))
	f.Add([]byte("\xfe\x00\x00\xff\x00\x00\x00\x00\x00\x00\x0b\x23\x01\x00\x00\x00"), uint8(7))
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		all := drain(stream, whole)
		if diff := cmp.Diff(all, drain(stream, func(left int) int { return min(left, int(step)+1) })); diff != "" {
			t.Errorf("cut every %d bytes (-whole +cut):\n%s", int(step)+1, diff)
		}
		// A new Decoder a frame finds the same, and what is decoded can be sent again.
		for buf := stream; ; {
			fr, n, err := new(remote.Decoder).Decode(buf)
			if n > len(buf) || (err != nil && n != 0) || len(fr.Payload) > remote.MaxLength {
				t.Fatalf("took %d of %d bytes, payload %d, error %v", n, len(buf), len(fr.Payload), err)
			}
			if n == 0 {
				break
			}
			again := remote.Append(nil, fr.Type, fr.Seq, fr.Payload)
			if fr.ASCII {
				again = remote.AppendLine(nil, fr.Payload)
			}
			again2, n2, err := new(remote.Decoder).Decode(again)
			if err != nil || n2 != len(again) {
				t.Fatalf("%s doesn't decode again: %d of %d, %v", describe(fr, nil), n2, len(again), err)
			}
			fr.Payload, again2.Payload = bytes.TrimSuffix(fr.Payload, []byte("\n")), bytes.TrimSuffix(again2.Payload, []byte("\n"))
			if a, b := describe(fr, nil), describe(again2, nil); a != b {
				t.Fatalf("%s came back as %s", a, b)
			}
			buf = buf[n:]
		}
	})
}

func TestDecodeAllocatesNothing(t *testing.T) {
	text := []byte("type=USER msg=audit(17.000:1): a=b")
	stream := remote.Append(nil, remote.Message, 7, text)
	stream = remote.AppendLine(stream, text)
	dst := make([]byte, 0, 1024)
	var d remote.Decoder
	if n := testing.AllocsPerRun(100, func() {
		dst = remote.Append(dst[:0], remote.Message, 7, text)
		for buf := stream; len(buf) > 0; {
			_, n, err := d.Decode(buf)
			if n == 0 || err != nil {
				t.Fatalf("took %d, %v", n, err)
			}
			buf = buf[n:]
		}
	}); n != 0 {
		t.Errorf("%v allocations a run, want none", n)
	}
}

// A line that trickles in must not cost its length squared: the decoder looks at
// each byte once. Counted by the bytes it no longer looks at: overwriting those it
// has seen with newlines must not change what it finds.
func TestDecoderLooksOnce(t *testing.T) {
	var d remote.Decoder
	line := bytes.Repeat([]byte("z"), 5000)
	if _, n, err := d.Decode(line); n != 0 || err != nil {
		t.Fatalf("took %d, %v", n, err)
	}
	for i := range line {
		line[i] = '\n'
	}
	f, n, err := d.Decode(append(line, 'a', '\n'))
	if err != nil || n != 5002 || !f.ASCII {
		t.Errorf("took %d, %v: looked again at bytes it had seen", n, err)
	}
}

func BenchmarkDecode(b *testing.B) {
	text := bytes.Repeat([]byte("x"), 350)
	for name, one := range map[string][]byte{
		"managed": remote.Append(nil, remote.Message, 1, text),
		"ascii":   remote.AppendLine(nil, text),
	} {
		b.Run(name, func(b *testing.B) {
			stream := bytes.Repeat(one, 180)
			b.SetBytes(int64(len(one)))
			var d remote.Decoder
			buf := stream
			for b.Loop() {
				_, n, err := d.Decode(buf)
				if n == 0 || err != nil {
					b.Fatal(n, err)
				}
				if buf = buf[n:]; len(buf) == 0 {
					buf = stream
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	text := bytes.Repeat([]byte("x"), 350)
	dst := make([]byte, 0, 1024)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		dst = remote.Append(dst[:0], remote.Message, 1, text)
	}
}
