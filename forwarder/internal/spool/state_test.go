package spool

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// example returns the bytes of FORMAT.md's example of a kind and what it says they mean.
func example(t *testing.T, kind string) (raw []byte, want string) {
	t.Helper()
	text, err := os.ReadFile("FORMAT.md")
	must(t, err)
	_, block, ok := strings.Cut(string(text), "```hex "+kind+"\n")
	if !ok {
		t.Fatalf("no example of %s", kind)
	}
	block, _, _ = strings.Cut(block, "\n```")
	digits, want, _ := strings.Cut(block, "\n= ")
	raw, err = hex.DecodeString(strings.NewReplacer(" ", "", "\n", "").Replace(digits))
	must(t, err)
	return raw, want
}

func TestFormatExamples(t *testing.T) {
	for _, kind := range []string{"entry", "marked", "reset"} {
		raw, want := example(t, kind)
		ms, mark, line, err := parseEntry(raw)
		must(t, err)
		if got := fmt.Sprintf("%d %q %q", ms, mark, line); got != want {
			t.Errorf("%s: %s, FORMAT.md says %s", kind, got, want)
		}
		again := appendEntry(nil, ms, mark, line)
		if kind == "reset" {
			again = appendReset(nil, ms, mark)
		}
		if !bytes.Equal(again, raw) {
			t.Errorf("%s: % x, FORMAT.md says % x", kind, again, raw)
		}
	}
	for _, kind := range []string{"slot", "old"} {
		raw, want := example(t, kind)
		c, gen, err := decodeSlot(append(raw, make([]byte, slotSize-len(raw))...))
		must(t, err)
		got := fmt.Sprintf("generation %d, acked %d, epochs", gen, c.acked)
		for _, e := range c.epochs {
			got += fmt.Sprintf(" %d %d", e.from, e.base)
			if e.stream != (StreamID{}) {
				got += fmt.Sprintf(" %x", e.stream)
			}
		}
		if got != want {
			t.Errorf("%s: %s, FORMAT.md says %s", kind, got, want)
		}
		if again := encodeSlot(c, gen); kind == "slot" && !bytes.Equal(bytes.TrimRight(again, "\x00"), raw) {
			t.Errorf("slot: % x, FORMAT.md says % x", again[:len(raw)], raw)
		}
	}
}

func TestSequenceIds(t *testing.T) {
	c := []epoch{{from: 0, base: 0x7ffffff0}, {from: 100, base: 0x10}}
	for index, want := range map[uint64]uint32{
		1: 0xfffffff1, 15: 0xffffffff, 16: 0x80000000, 99: 0x80000053, 100: 0x80000074,
		1 << 40: 0x80000010, 1<<31 + 100: 0x80000074,
	} {
		if got := seqOf(c, index); got != want {
			t.Errorf("index %d: %#x, want %#x", index, got, want)
		}
	}
}

// Each life of a spool goes on well ahead of the one before, and only what isn't
// acknowledged keeps its epoch.
func TestEpochs(t *testing.T) {
	fs := faultfs.New(1)
	s := open(t, fs)
	add(t, s, numbered(1, 10)...)
	old := rest(t, s.Reader())
	must(t, s.Ack(5))
	for range 3 { // lives without a record of their own leave nothing behind
		must(t, s.Close())
		s = open(t, fs)
	}
	if len(*s.epochs.Load()) != 2 {
		t.Errorf("epochs %v", *s.epochs.Load())
	}
	add(t, s, "new")
	got := rest(t, s.Reader())
	if diff := cmp.Diff(old[5:], got[:5]); diff != "" {
		t.Error(diff)
	}
	ahead := (got[5].Seq - old[9].Seq) & 0x7fffffff
	if ahead < 3<<24 || ahead > 3<<25 {
		t.Errorf("ids jumped by %d in three restarts", ahead)
	}
	must(t, s.Ack(11))
	must(t, s.Close())
	s = open(t, fs)
	if len(*s.epochs.Load()) != 1 {
		t.Errorf("all acknowledged: epochs %v", *s.epochs.Load())
	}
	other := open(t, faultfs.New(1))
	if other.Seq(1) == old[0].Seq {
		t.Error("two spools begin with the same id")
	}
}

func TestManyEpochs(t *testing.T) {
	fs := faultfs.New(1)
	for i := range maxEpochs + 5 {
		s := open(t, fs, func(o *Options) { o.SegmentBytes = 1 })
		add(t, s, fmt.Sprint(i))
		must(t, s.Close())
	}
	s := open(t, fs)
	if len(*s.epochs.Load()) != maxEpochs || s.Left() != maxEpochs+5 {
		t.Errorf("%d epochs, %d records", len(*s.epochs.Load()), s.Left())
	}
	seqs := map[uint32]bool{}
	for _, r := range rest(t, s.Reader()) {
		seqs[r.Seq] = true
	}
	if len(seqs) != maxEpochs+5 {
		t.Errorf("%d different ids for %d records", len(seqs), maxEpochs+5)
	}
}

// The state may be ahead of a log that lost what wasn't synced.
func TestStateAheadOfLog(t *testing.T) {
	fs := faultfs.New(1)
	s := open(t, fs)
	add(t, s, numbered(1, 10)...)
	must(t, s.Close())
	st, c, err := openState(fs, filepath.Join(dir, stateName))
	must(t, err)
	c.acked = 1 << 30
	must(t, st.write(c, true))
	must(t, st.close())
	s = open(t, fs)
	if s.First() != 11 || s.Left() != 0 {
		t.Errorf("first %d, left %d", s.First(), s.Left())
	}
	add(t, s, "new")
	if got := texts(rest(t, s.Reader())); len(got) != 1 || got[0] != "new" {
		t.Errorf("%q", got)
	}
}

// The slot that was durable isn't touched by writes that aren't yet.
func TestTornStateWrites(t *testing.T) {
	for seed := range int64(100) {
		fs := faultfs.New(seed)
		fs.TearBytes()
		s := open(t, fs, func(o *Options) { o.SegmentBytes = 64 << 10 })
		s.noteEvery = 1
		add(t, s, numbered(1, 20)...)
		must(t, s.Ack(5))
		must(t, s.Sync())
		for i := uint64(6); i < 20; i++ {
			must(t, s.Ack(i))
		}
		die(fs, s)
		fs.Crash()
		s = open(t, fs)
		if s.First() < 6 {
			t.Fatalf("seed %d: resumed at %d", seed, s.First())
		}
		must(t, s.Close())
	}
}

func TestStateFile(t *testing.T) {
	t.Parallel()
	whole := encodeSlot(content{acked: 3, epochs: []epoch{{base: 77, stream: StreamID{1}}}}, 1)
	newer := encodeSlot(content{acked: 5, epochs: []epoch{{base: 77, stream: StreamID{1}}}}, 2)
	torn := append(append([]byte(nil), newer[:512]...), make([]byte, slotSize-512)...)
	torn[24] ^= 1
	future := append([]byte(nil), newer...)
	future[8] = stateVersion + 1
	zero := make([]byte, slotSize)
	for name, c := range map[string]struct {
		text  []byte
		first uint64 // that is resumed at, of 10
		err   error
	}{
		"first write":           {slices.Concat(zero, whole), 4, nil},
		"both":                  {slices.Concat(newer, whole), 6, nil},
		"older one torn":        {slices.Concat(newer, torn), 6, nil},
		"newer one torn":        {slices.Concat(torn, whole), 4, nil},
		"very first write torn": {slices.Concat(zero, torn), 1, nil},
		"nothing but zeroes":    {slices.Concat(zero, zero), 1, nil},
		"cut short":             {slices.Concat(zero, whole[:100]), 1, nil},
		"both damaged":          {slices.Concat(torn, torn), 1, nil},
		"empty":                 {nil, 1, nil},
		"newer version":         {slices.Concat(future, whole), 0, ErrStateVersion},
		"something else":        {[]byte("hello"), 0, ErrState},
		"something long":        {bytes.Repeat([]byte("hello"), 5000), 0, ErrState},
	} {
		t.Run(name, func(t *testing.T) {
			d := t.TempDir()
			o := Options{Dir: d, MaxBytes: 1 << 20}
			s, _, err := Open(o)
			must(t, err)
			add(t, s, numbered(1, 10)...)
			seq := s.Seq(10)
			must(t, s.Close())
			must(t, os.WriteFile(filepath.Join(d, stateName), c.text, 0o600))
			s, _, err = Open(o)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), stateName) {
					t.Errorf("%v doesn't name the file", err)
				}
				return
			}
			defer s.Close()
			if s.First() != c.first {
				t.Errorf("resumes at %d, want %d", s.First(), c.first)
			}
			if got := s.Seq(10); c.first > 1 && got != 0x80000000|(77+10) {
				t.Errorf("id %#x", got)
			} else if c.first == 1 && got == seq {
				t.Errorf("id %#x is the same without the state", got)
			}
		})
	}
}

func FuzzState(f *testing.F) {
	f.Add(encodeSlot(content{acked: 3, epochs: []epoch{{base: 77, stream: StreamID{1}}, {2, 99, StreamID{15: 2}}}}, 9))
	f.Add([]byte("AFSPOOL\x00\x01"))
	f.Fuzz(func(t *testing.T, slot []byte) {
		if len(slot) == slotSize { // a fuzzer doesn't find checksums
			sum := slotSum(slot)
			copy(slot[12:], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
		}
		c, gen, err := decodeSlot(slot)
		if err != nil {
			return
		}
		c2, gen2, err := decodeSlot(encodeSlot(c, gen))
		if err != nil || gen2 != gen || fmt.Sprint(c) != fmt.Sprint(c2) {
			t.Errorf("%+v came back as %+v, %v", c, c2, err)
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add(appendEntry(nil, 1_700_000_000_123, nil, []byte("type=USER")))
	f.Add(appendEntry(nil, 1_700_000_000_123, []byte("mark"), []byte("type=USER")))
	f.Add(appendReset(nil, 1_700_000_000_123, []byte("mark")))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, e []byte) {
		ms, mark, line, err := parseEntry(e)
		if err != nil {
			return
		}
		again := appendEntry(nil, ms, mark, line)
		if e[0] == resetEntry {
			again = appendReset(nil, ms, mark)
		}
		if !bytes.Equal(again, e) {
			t.Errorf("% x came back as % x", e, again)
		}
	})
}

// Each life begins a stream, and what waits keeps its own: with the power lost after records
// were sent, and from an older copy of the folder. Renew changes all, durably.
func TestStreams(t *testing.T) {
	fs := faultfs.New(1)
	s := open(t, fs)
	add(t, s, numbered(1, 10)...)
	first, end := s.Stream(1)
	if first == (StreamID{}) || end != math.MaxUint64 || s.Newest() != 10 {
		t.Fatalf("%x to %d, newest %d", first, end, s.Newest())
	}
	must(t, s.Close())
	s = open(t, fs)
	add(t, s, numbered(11, 15)...)
	old, end := s.Stream(10)
	second, _ := s.Stream(11)
	if old != first || end != 11 || second == first {
		t.Errorf("record 10 is of %x, which ends at %d; record 11 of %x", old, end, second)
	}
	must(t, s.Ack(12))
	must(t, s.Renew())
	renewed, _ := s.Stream(13)
	if renewed == second {
		t.Error("Renew changes nothing")
	}
	fs.Crash()
	s = open(t, fs)
	if s.Newest() >= 13 {
		if got, _ := s.Stream(13); got != renewed {
			t.Errorf("after a crash record 13 is of %x, was of %x", got, renewed)
		}
	}
	third, _ := s.Stream(s.Newest() + 1)
	for _, before := range []StreamID{first, second, renewed} {
		if third == before {
			t.Error("a stream goes on after a loss of power")
		}
	}
	must(t, s.Close())
}
