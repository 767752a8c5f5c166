package ingest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

type rec struct {
	Skipped int
	Text    string
}

func pack(list ...rec) (out []byte) {
	for _, r := range list {
		out = append(out, 0, 0, 0)
		PutHead(out[len(out)-HeadLen:], len(r.Text), r.Skipped)
		out = append(out, r.Text...)
	}
	return out
}

func unpack(raw []byte) (list []rec, err error) {
	for len(raw) > 0 {
		skipped, text, rest, err := Next(raw)
		if err != nil {
			return list, err
		}
		list, raw = append(list, rec{skipped, string(text)}), rest
	}
	return list, nil
}

func frame(t testing.TB, raw []byte) []byte {
	p, err := NewPacker()
	if err != nil {
		t.Fatal(err)
	}
	return p.Pack(nil, raw)
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	var list []rec
	for n := 0; n < 60<<10; {
		r := rec{rand.IntN(MaxSkipped + 1), strings.Repeat("x", rand.IntN(300))}
		list, n = append(list, r), n+HeadLen+len(r.Text)
	}
	for _, list := range [][]rec{list, {{0, ""}}, {{MaxSkipped, strings.Repeat("y", MaxText)}}, {{0, strings.Repeat("a", MaxText)}, {1, strings.Repeat("b", MaxText)}}} {
		f := frame(t, pack(list...))
		size, err := Size(f)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := Unpack(f, size)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unpack(raw)
		if d := cmp.Diff(list, got); d != "" || err != nil {
			t.Errorf("%v\n%s", err, d)
		}
	}
}

func TestFormatExample(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(doc), "```hex\n")
	block, _, _ = strings.Cut(block, "```")
	text := ""
	for line := range strings.Lines(block) {
		line, _, _ := strings.Cut(line, "|")
		text += strings.Join(strings.Fields(line), "")
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []rec{{0, "type=EOE"}, {2, "x"}}
	if got, err := unpack(raw); err != nil || !cmp.Equal(want, got) || !bytes.Equal(raw, pack(want...)) {
		t.Errorf("%v, %v; written now %x", got, err, pack(want...))
	}
}

// What does not say its size, lies about it, or is too large is refused before memory is
// taken for it.
func TestHostileFrames(t *testing.T) {
	t.Parallel()
	stream := func(raw []byte) []byte { // as a stream is written: without its size
		var b bytes.Buffer
		w, _ := zstd.NewWriter(&b)
		_, _ = w.Write(raw)
		_ = w.Flush()
		_ = w.Close()
		return b.Bytes()
	}
	enc, _ := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	bomb := enc.EncodeAll(make([]byte, 64<<20), nil)
	good := frame(t, pack(rec{0, strings.Repeat("abc", 20000)}))
	// A header that says less than what follows: of 4 bytes' size (single segment).
	lies := append([]byte(nil), bomb...)
	if lies[4]>>6 != 2 {
		t.Fatalf("descriptor %x", lies[4])
	}
	copy(lies[5:9], []byte{0, 1, 0, 0})
	for name, f := range map[string][]byte{
		"empty": {}, "no frame": []byte("type=EOE"), "without size": stream(make([]byte, 5000)), "64 MiB of zeroes": bomb, "says 256 and is 64 MiB": lies,
		"nothing in it": enc.EncodeAll([]byte{}, []byte{}), "cut": good[:len(good)/2], "something behind": append(append([]byte(nil), good...), 1, 2, 3),
		"two": append(append([]byte(nil), good...), good...), "skippable": {0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9},
	} {
		size, err := Size(f)
		if err == nil {
			_, err = Unpack(f, size)
		}
		if !errors.Is(err, ErrBatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, raw := range []string{"\x01", "\x05\x00\x00abc", "\xff\xff\x01" + strings.Repeat("x", 131071)} {
		if _, err := unpack([]byte(raw)); !errors.Is(err, ErrBatch) {
			t.Errorf("%.20q: %v", raw, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(frame(f, pack(rec{0, "type=EOE"}, rec{2, "x"})))
	f.Add(frame(f, pack(rec{1, strings.Repeat("type=SYSCALL ", 500)})))
	f.Fuzz(func(t *testing.T, b []byte) {
		size, err := Size(b)
		if err != nil {
			return
		}
		raw, err := Unpack(b, size)
		if err != nil {
			return
		}
		list, err := unpack(raw)
		if err == nil && !bytes.Equal(pack(list...), raw) {
			t.Fatalf("%x is read as %v", raw, list)
		}
	})
}

func BenchmarkUnpack(b *testing.B) {
	var list []rec
	for n := 0; n < 64<<10; n += 200 {
		list = append(list, rec{0, strings.Repeat("type=SYSCALL msg=audit(", 7) + hex.EncodeToString([]byte{byte(n), byte(n >> 8)})})
	}
	f := frame(b, pack(list...))
	b.ReportAllocs()
	for b.Loop() {
		size, _ := Size(f)
		raw, _ := Unpack(f, size)
		for len(raw) > 0 {
			_, _, raw, _ = Next(raw)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(list)), "ns/record")
}
