package output

import (
	"testing"

	"github.com/auditfleet/auditfleet/pkg/event"
)

func TestCSVSafe(t *testing.T) {
	for cell, want := range map[string]string{
		"": "", "web": "web", "a=b": "a=b", "=1+1": "'=1+1", "+1": "'+1", "-2": "'-2", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", "\r=1": "'\r=1",
		"  =1": "'  =1", "\uff1d1": "'\uff1d1", "'=1": "'=1",
	} {
		if got := CSVSafe(cell); got != want {
			t.Errorf("%q: %q, want %q", cell, got, want)
		}
	}
}

// fixedText is a formatter of one text.
type fixedText string

func (fixedText) Head(dst []byte) []byte                     { return dst }
func (f fixedText) Append(dst []byte, _ *event.Event) []byte { return append(dst, f...) }

func TestCSVSafeLines(t *testing.T) {
	for text, want := range map[string]string{
		"a,b,,c\n":               "a,b,,c\n",
		"=1,a,-2,b,+x\n@y,\tz\n": "'=1,a,'-2,b,'+x\n'@y,'\tz\n",
		"a,\"=x\", =y,\n":        "a,\"'=x\", '=y,\n",
		"a,\r\n":                 "a,'\r\n",
	} {
		f := &csvSafe{Formatter: fixedText(text)}
		if got := string(f.Append(nil, nil)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
