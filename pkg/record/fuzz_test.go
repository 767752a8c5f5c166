package record

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func FuzzParse(f *testing.F) {
	for _, line := range lines(f, logs...) {
		f.Add(line)
	}
	f.Add([]byte("type=PATH msg=audit(5.250:18446744073709551616): a='x"))
	f.Add([]byte("node=a msg='msg=audit(1.1:1): b={ \x1d\x1d msg="))
	f.Add([]byte("Nov 28 14:04:05 web1 kernel: [ 1.2] audit: type=1400 audit(5.250:7): a=1\r"))
	f.Add([]byte(`<13>1 2026-11-28T14:04:05Z web1 a 1 - [x@1 k="a: \"" l="m"][y z="]"] node=h type=PATH msg=audit(5.250:7) a=1`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if err := check(line); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	})
}

// TestRoundTrip writes a record field by field and finds the same fields again.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := []byte{}
		node := rapid.SampledFrom([]string{"", "web1", "h-7.example"}).Draw(t, "node")
		if node != "" {
			line = append(line, "node="+node+" "...)
		}
		line = append(line, "type=SYSCALL msg=audit(1626611363.007:42): "...)
		own := rapid.SliceOf(genField("own")).Draw(t, "own")
		line = appendFields(line, own)
		if rapid.Bool().Draw(t, "has msg") {
			line = append(line, " msg='"...)
			line = appendFields(line, rapid.SliceOf(genField("msg")).Draw(t, "msg"))
			line = append(line, '\'')
		}
		enriched := rapid.SliceOf(genField("enriched")).Draw(t, "enriched")
		if len(enriched) > 0 {
			line = appendFields(append(line, Separator), enriched)
		}
		var r Record
		if err := r.Parse(line); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if string(r.Node) != node || r.Serial != 42 || r.Ms() != 1626611363007 {
			t.Fatalf("%q: header %s %d %d", line, r.Node, r.Serial, r.Ms())
		}
		compare(t, line, own, r.Fields())
		compare(t, line, enriched, r.EnrichedFields())
		if err := check(line); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	})
}

type written struct {
	name, value string
	quote       byte
}

func genField(part string) *rapid.Generator[written] {
	return rapid.Custom(func(t *rapid.T) written {
		w := written{name: rapid.StringMatching(`[a-z][a-z0-9_-]{0,6}`).Filter(func(s string) bool { return s != "msg" }).Draw(t, "name")}
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			w.value = rapid.StringMatching(`[!#-&(-z|~]{0,12}`).Draw(t, "bare")
		case 1:
			w.value, w.quote = rapid.StringMatching(`[ -!#-&(-~]{0,12}`).Draw(t, "quoted"), '"'
		case 2:
			w.value, w.quote = rapid.StringMatching(`[ -!#-&(-~]{0,12}`).Draw(t, "single"), '\''
		}
		if part == "enriched" { // upper-case names, and values with spaces and quotes
			w.name = strings.ToUpper(w.name)
			if w.quote == 0 {
				w.value = rapid.StringMatching(`([a-z\\][a-z=" ]{0,12}[a-z"])?`).Draw(t, "meaning")
			} else {
				w.value = rapid.StringMatching(`[a-z"'=\\ ]{0,12}`).Draw(t, "quoted meaning")
			}
		}
		if part == "msg" && w.quote == 0 {
			w.value = "x"
		}
		return w
	})
}

func appendFields(line []byte, fields []written) []byte {
	for i, w := range fields {
		if i > 0 {
			line = append(line, ' ')
		}
		line = append(line, w.name+"="...)
		if w.quote != 0 {
			line = append(line, w.quote)
		}
		line = append(line, w.value...)
		if w.quote != 0 {
			line = append(line, w.quote)
		}
	}
	return line
}

func compare(t *rapid.T, line []byte, want []written, got Fields) {
	for _, w := range want {
		f, ok := got.Next()
		if !ok || string(f.Name) != w.name || string(f.Value) != w.value || f.Quote != w.quote {
			t.Fatalf("%q: got %s=%q (%q), want %+v", line, f.Name, f.Value, f.Quote, w)
		}
	}
	f, ok := got.Next()
	if ok && string(f.Name) != "msg" {
		t.Fatalf("%q: one more, %s=%q", line, f.Name, f.Value)
	}
}
