package layout

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

func TestStateExample(t *testing.T) {
	t.Parallel()
	format, err := os.ReadFile("../FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	b := &store.State{ID: 7, LSN: 1000, Open: []uint64{990, 995}}
	for text, writes := range map[string]bool{"02 07 e8 07 02 de 07 05 XX XX XX XX": true, "01 07 e8 07 02 de 07 05": false} {
		got := EncodeState(b)
		if writes {
			text = strings.TrimSuffix(text, " XX XX XX XX") + fmt.Sprintf(" % x", got[len(got)-4:])
		}
		want, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(format), "`"+text+"`") {
			t.Errorf("FORMAT.md does not have the example %s", text)
		}
		if writes && !bytes.Equal(got, want) {
			t.Errorf("%x, FORMAT.md says %x", got, want)
		}
		st, err := DecodeState(want)
		if d := cmp.Diff(&store.State{ID: 7, LSN: 1000, Open: []uint64{990, 995}}, st); err != nil || d != "" {
			t.Errorf("%s: %v %s", text, err, d)
		}
	}
}

func FuzzState(f *testing.F) {
	f.Add(EncodeState(&store.State{ID: 7, LSN: 1000, Open: []uint64{990, 995}}))
	f.Add(EncodeHost(&store.Host{Name: "a", Records: 5}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if st, err := DecodeState(b); err == nil && len(b) > 0 {
			again, err := DecodeState(EncodeState(st))
			if d := cmp.Diff(st, again); err != nil || d != "" {
				t.Errorf("%v %s", err, d)
			}
		}
		_, _ = DecodeHost([]byte("ha"), b)
	})
}
