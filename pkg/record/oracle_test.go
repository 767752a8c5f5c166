package record

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/elastic/go-libaudit/v2/auparse"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// auparseRewrites are the fields go-libaudit turns into something else: names
// for numbers, parts of a context, tags. Their raw values cannot be compared.
var auparseRewrites = map[string]bool{
	"arch": true, "syscall": true, "exit": true, "sig": true, "success": true, "res": true,
	"auid": true, "old-auid": true, "ses": true, "subj": true, "obj": true, "saddr": true, "key": true, "msg": true,
}

// TestAgainstLibaudit compares with go-libaudit's parser all it gets right: not
// node=, nor the enriched tail, nor a name that the nested part has too, nor a
// quote inside of msg='…', where it stops.
func TestAgainstLibaudit(t *testing.T) {
	compared, skipped := 0, 0
	for _, line := range lines(t, logs...) {
		var r Record
		if err := r.Parse(line); err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(r.Msg(), '\'') >= 0 {
			skipped++
			continue
		}
		text := r.Raw[:len(r.Raw)-tailLen(&r)]
		if r.Node != nil {
			text = text[len("node=")+len(r.Node)+1:]
		}
		m, err := auparse.ParseLogLine(string(text))
		if err != nil {
			if _, ok := libauditLacks[r.Type]; !ok {
				t.Errorf("%s: %v", text, err)
			}
			skipped++
			continue
		}
		if uint16(m.RecordType) != r.Type || m.Timestamp.UnixMilli() != r.Ms() || uint64(m.Sequence) != r.Serial {
			t.Errorf("%s: header %v %v %v", text, m.RecordType, m.Timestamp, m.Sequence)
		}
		data, err := m.Data()
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		seen := count(r.Fields(), r.MsgFields())
		for _, f := range []Fields{r.Fields(), r.MsgFields()} {
			for {
				field, ok := f.Next()
				if !ok {
					break
				}
				name := string(field.Name)
				if auparseRewrites[name] || seen[name] > 1 || absent(field.Value) {
					continue
				}
				got := data[name]
				if got != string(field.Value) && got != decodedAsThere(field) {
					t.Errorf("%s: %s is %q to go-libaudit, %q here", text, name, got, field.Value)
				}
				compared++
			}
		}
	}
	if compared < 1500 || skipped > 10 {
		t.Errorf("%d fields compared, %d records skipped: the comparison says little", compared, skipped)
	}
}

// libauditLacks are the types go-libaudit cannot read.
var libauditLacks = map[uint16]struct{}{
	tables.IPEAccess: {}, tables.LandlockAccess: {}, tables.MACTaskContexts: {},
}

func tailLen(r *Record) int {
	if r.Enriched == nil {
		return 0
	}
	return len(r.Enriched) + 1
}

func count(parts ...Fields) map[string]int {
	n := map[string]int{}
	for _, f := range parts {
		for {
			field, ok := f.Next()
			if !ok {
				break
			}
			n[string(field.Name)]++
		}
	}
	return n
}

func absent(v []byte) bool {
	switch string(v) {
	case "", "?", "?,", "(null)":
		return true
	}
	return false
}

// decodedAsThere decodes like go-libaudit, which joins NUL-separated parts with
// a space and cuts the last NUL off.
func decodedAsThere(f Field) string {
	if _, err := hex.DecodeString(string(f.Value)); err != nil {
		return strconv.Quote(string(f.Value)) + " is no hex"
	}
	return strings.ReplaceAll(string(bytes.TrimRight(f.AppendDecoded(nil), "\x00")), "\x00", " ")
}
