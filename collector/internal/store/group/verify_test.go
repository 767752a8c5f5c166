package group

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// TestVerifyClean: what the codec writes, of any make, is as it should be.
func TestVerifyClean(t *testing.T) {
	c := codec(t)
	for name, tab := range map[string]*store.Table{"fixture": fixtureTable(t), "many hosts": bigTable(t, 300, 2<<20), "one host, several frames": bigTable(t, 1, 6<<20)} {
		b, sum, err := c.Encode(tab)
		if err != nil {
			t.Fatal(err)
		}
		v := c.Verify(b)
		for _, f := range v.Findings {
			t.Errorf("%s: %+v", name, f)
		}
		if v.Events != sum.Events || v.Records != sum.Records || v.Bytes != sum.RawBytes || uint64(v.Blocks) != sum.Blocks || uint64(len(v.Hosts)) != sum.Hosts {
			t.Errorf("%s: counted %+v, encoded were %+v", name, v, sum)
		}
	}
}

// TestVerifyNamesEveryFlip: any flipped bit is found, at a place near it, and what
// is said to be readable is.
func TestVerifyNamesEveryFlip(t *testing.T) {
	c := codec(t)
	b, sum, err := c.Encode(fixtureTable(t))
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	step := max(1, len(b)/need.Size(1500, 300))
	for at := 0; at < len(b); at += step {
		bad := bytes.Clone(b)
		bad[at] ^= 1 << (at % 8)
		v := c.Verify(bad)
		if len(v.Findings) == 0 {
			t.Fatalf("flip at %d of %d is not found", at, len(b))
		}
		lost := uint64(0)
		for _, f := range v.Findings {
			lost += f.Events
		}
		// Without head or summary the number is the catalogue's to say.
		if v.Summary.Events > 0 && v.Events+lost != sum.Events {
			t.Errorf("flip at %d: %d events readable, %d lost, of %d: %v", at, v.Events, lost, sum.Events, v.Findings)
		}
		for _, s := range g.sections {
			if in := int64(at) - int64(s.off); in >= 0 && in < int64(s.len) && s.kind != secData && v.Findings[0].Offset != int64(s.off) {
				t.Errorf("flip at %d, in the section at %d, is said to be at %d: %v", at, s.off, v.Findings[0].Offset, v.Findings[0].Err)
			}
		}
	}
}

// patch changes a section and makes its checksum fit again: the mistake of a
// program, not of a disk.
func patch(t *testing.T, g *Group, b []byte, kind byte, arg query.Field, change func(s []byte)) []byte {
	t.Helper()
	out := bytes.Clone(b)
	for i, s := range g.sections {
		if s.kind != kind || s.arg != byte(arg) {
			continue
		}
		body := out[s.off : s.off+s.len]
		change(body)
		binary.LittleEndian.PutUint32(out[headSize+i*sectionSize+4:], crc32.Checksum(body, castagnoli))
		binary.LittleEndian.PutUint32(out[12:], headSum(out, headSize+len(g.sections)*sectionSize))
		return out
	}
	t.Fatalf("no section %d/%d", kind, arg)
	return nil
}

// TestVerifyContradictions: checksums that hold do not help when index, counts
// and events disagree.
func TestVerifyContradictions(t *testing.T) {
	c := codec(t)
	tab := store.NewTable()
	for i := range 5 {
		tab.Add("web1", storetest.Parse("web1", fmt.Sprintf(`node=web1 type=SYSCALL msg=audit(1795334400.%03d:%d): arch=c000003e syscall=2 success=yes pid=%d key="key-one"`, i, i+1, 100+i)))
	}
	b, _, err := c.Encode(tab)
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Verify(b); len(v.Findings) > 0 {
		t.Fatal(v.Findings)
	}
	for name, x := range map[string]struct {
		bad  []byte
		want string
	}{
		"summary":        {patch(t, g, b, secSummary, 0, func(s []byte) { s[8]++ }), "summary"},
		"block's time":   {patch(t, g, b, secBlocks, 0, func(s []byte) { s[32]++ }), "table entry"},
		"block's events": {patch(t, g, b, secBlocks, 0, func(s []byte) { s[20]++ }), "blocks of"},
		"dictionary's value": {patch(t, g, b, secDict, query.FieldKey, func(s []byte) {
			copy(s[bytes.Index(s, []byte("key-one")):], "key-two")
		}), "dictionary of field key"},
		"postings": {patch(t, g, b, secDict, query.FieldPID, func(s []byte) { s[len(s)-1]-- }), "dictionary of field pid"},
	} {
		v := c.Verify(x.bad)
		if len(v.Findings) == 0 || !strings.Contains(v.Findings[0].Err.Error(), x.want) {
			t.Errorf("%s: %v; want %q", name, v.Findings, x.want)
		}
	}
}

// longer returns a group whose frame i, which is the last one stored, has more text than its blocks have.
func longer(t *testing.T, c *Codec, g *Group, b []byte, i int) []byte {
	t.Helper()
	text, err := g.Text(nil, uint32(i))
	if err != nil {
		t.Fatal(err)
	}
	var data section
	for _, s := range g.sections {
		if s.kind == secData {
			data = s
		}
	}
	fr := rawFrame(g.frames[i*frameSize:])
	if end := data.off + uint64(fr.off) + uint64(fr.stored); end != data.off+data.len || end != uint64(len(b)) {
		t.Fatalf("frame %d ends at %d, the group at %d", i, end, len(b))
	}
	stored := c.enc.EncodeAll(append(text, "more"...), nil)
	out := append(bytes.Clone(b[:data.off+uint64(fr.off)]), stored...)
	entry := frame{off: fr.off, stored: uint32(len(stored)), raw: fr.raw + 4, crc: crc32.Checksum(stored, castagnoli)}.append(nil)
	for n, s := range g.sections {
		if s.kind == secData {
			binary.LittleEndian.PutUint64(out[headSize+n*sectionSize+16:], uint64(fr.off)+uint64(len(stored)))
		}
	}
	return patch(t, g, out, secFrames, 0, func(s []byte) { copy(s[i*frameSize:], entry) })
}

// TestVerifyLastFrame: text that no block has is found in the last frame, too, of one or of several.
func TestVerifyLastFrame(t *testing.T) {
	c := codec(t)
	for name, tab := range map[string]*store.Table{"one frame": fixtureTable(t), "several": bigTable(t, 1, 6<<20)} {
		b, _, err := c.Encode(tab)
		if err != nil {
			t.Fatal(err)
		}
		g, err := c.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		last := len(g.frames)/frameSize - 1
		if (name == "several") != (last > 0) {
			t.Fatalf("%s: %d frames", name, last+1)
		}
		v := c.Verify(longer(t, c, g, b, last))
		want := fmt.Sprintf("frame %d: its blocks hold", last)
		found := false
		for _, f := range v.Findings {
			found = found || strings.Contains(f.Err.Error(), want)
		}
		if !found || v.Events != g.Summary.Events {
			t.Errorf("%s: %d of %d events, %v; want %q", name, v.Events, g.Summary.Events, v.Findings, want)
		}
	}
}
