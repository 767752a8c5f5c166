package rules

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
)

// formatExample builds the bytes that FORMAT.md shows.
func formatExample(t *testing.T) []byte {
	t.Helper()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(doc), "```")
	if len(parts) < 3 {
		t.Fatal("no example in FORMAT.md")
	}
	b := make([]byte, 1054)
	for i := range 256 {
		b[offMask+i] = 0xff
	}
	for line := range strings.Lines(strings.TrimSpace(parts[1])) {
		at, rest, _ := strings.Cut(line, "  ")
		off, err := strconv.ParseInt(at, 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		for _, digits := range strings.Fields(rest) {
			v, err := hex.DecodeString(digits)
			if err != nil || len(v) != 1 {
				break
			}
			b[off] = v[0]
			off++
		}
	}
	return b
}

func TestFormatExample(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the example is little-endian")
	}
	b := formatExample(t)
	r, err := Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	const want = "-w /etc/hostname -p wa -k a"
	if got := r.Text(testEnv(), TextOptions{}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if out, err := mustParse(t, want).Marshal(); err != nil || string(out) != string(b) {
		t.Errorf("sent % x, want % x (%v)", out, b, err)
	}
}

func TestUnmarshalLies(t *testing.T) {
	good, err := mustParse(t, "-a always,exit -F arch=b64 -S open -F exe=/bin/true -F uid=1 -k key").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	set := func(off int, v uint32) []byte {
		b := append([]byte(nil), good...)
		binary.NativeEndian.PutUint32(b[off:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"empty":                       nil,
		"shorter than a header":       good[:headerLen-1],
		"strings cut off":             good[:len(good)-1],
		"65 fields":                   set(offCount, 65),
		"2^32-1 fields":               set(offCount, ^uint32(0)),
		"more strings than there are": set(offBufLen, 100),
		"2^32-1 bytes of strings":     set(offBufLen, ^uint32(0)),
		"fewer strings than fields":   set(offBufLen, 3),
		"a string longer than all":    set(offValues+4, 1000),
		"a string of 2^32-1 bytes":    set(offValues+4, ^uint32(0)),
		"a string shorter":            set(offValues+4, 2),
		"an operator that is none":    set(offFieldFlags+8, 7),
		"unknown flags":               set(0, 0x104),
	} {
		if r, err := Unmarshal(b); !errors.Is(err, ErrWire) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	nul := append([]byte(nil), good...)
	nul[headerLen+2] = 0
	if _, err := Unmarshal(nul); !errors.Is(err, ErrWire) {
		t.Errorf("NUL in a string: %v", err)
	}
	if _, err := Unmarshal(append(good, 0, 0, 0)); err != nil {
		t.Errorf("padding: %v", err)
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, r := range map[string]*Rule{
		"65 fields": {List: ListExit, Fields: make([]Field, 65)},
		"NUL":       {List: ListExit, Fields: []Field{{ID: FieldPath, Op: Equal, Str: "/a\x00b"}}},
		"too long":  {List: ListExit, Fields: []Field{{ID: FieldPath, Op: Equal, Str: strings.Repeat("a", MaxPath+1)}}},
		"list":      {List: 99},
		"together":  {List: ListExit, Fields: []Field{{ID: FieldPath, Op: Equal, Str: strings.Repeat("a", MaxPath)}, {ID: FieldExe, Op: Equal, Str: strings.Repeat("a", MaxPath)}}},
	} {
		if _, err := r.Marshal(); !errors.Is(err, ErrRule) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEquivalentPayload(t *testing.T) {
	b := EquivalentPayload("/mnt", "/a")
	if binary.NativeEndian.Uint32(b) != 4 || binary.NativeEndian.Uint32(b[4:]) != 2 || string(b[8:]) != "/mnt/a" {
		t.Errorf("% x", b)
	}
}
