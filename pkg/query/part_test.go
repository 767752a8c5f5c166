package query

import (
	"bytes"
	"testing"
)

func TestPart(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "needle": "needle", "^/opt/needle$": "/opt/needle", `\.conf$`: ".conf", "(?i)needle": "", "a|b": "", "x*": "", "(abc)+d": "abc",
		"(abc){2,}": "abc", "(abc)?": "", "ab.cde": "cde", `\x{FFFD}abc`: "", "(": "", "[a]bc": "abc", "a(?i:b)cd": "cd", "(?:)": "",
	} {
		term := Term{Op: OpRegexp, Text: text}
		if got := term.Part(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for op, want := range map[Op]string{OpContains: "needle", OpEqual: "", OpUser: "", OpLess: ""} {
		term := Term{Op: op, Text: "needle"}
		if got := term.Part(); got != want {
			t.Errorf("%v: %q, want %q", op, got, want)
		}
	}
}

// What a term finds has the term's part.
func FuzzPart(f *testing.F) {
	for _, s := range []string{"(abc)+d|e", "(?i)x", "a{0,2}bc", `\x{FFFD}a`, "[^a]b", "(?s).a", "^$", `\Qa.b\E`, "a\xffb", "K", "(?i)k"} {
		f.Add(s, []byte("abcd\xffb"), byte(OpRegexp))
		f.Add(s, []byte(s), byte(OpContains))
	}
	f.Fuzz(func(t *testing.T, text string, value []byte, op byte) {
		term := Term{Op: Op(op), Text: text}
		if term.check() != nil {
			return
		}
		if part := term.Part(); term.Values()(value) && !bytes.Contains(value, []byte(part)) {
			t.Errorf("%q accepts %q, and says that it has %q", text, value, part)
		}
	})
}
