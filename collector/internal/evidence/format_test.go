package evidence

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/eventtree"
)

// FuzzManifest: of a manifest there is one text, and anything else is refused.
func FuzzManifest(f *testing.F) {
	f.Add(manifestText(1, "00112233445566778899aabbccddeeff", []entry{{Readme, 12, eventtree.Hash{1}}, {Records, 0, eventtree.Hash{2}}}))
	f.Add("auditfleet evidence 1\nstore x\n")
	f.Fuzz(func(t *testing.T, text string) {
		format, store, list, err := parseManifest(text)
		if err == nil && strings.TrimSuffix(manifestText(format, store, list), "\n") != strings.TrimSuffix(text, "\n") {
			t.Errorf("%q is read, and is written %q", text, manifestText(format, store, list))
		}
	})
}

// FuzzVerify: whatever the files of a bundle are, they are refused, and never a panic.
func FuzzVerify(f *testing.F) {
	f.Add([]byte(`{"n":1,"batch":1,"host":"a","offset":0,"length":3,"records":1,"transport":"tcp","received_ms":[1]}`+"\n"), []byte("r\n\n"), []byte(`{"batch":1,"events":[[1,0]],"of":1,"leaf":"AQE=","index":0}`+"\n"))
	f.Add([]byte("{}\n"), []byte{}, []byte("{}\n"))
	f.Fuzz(func(t *testing.T, events, records, proofs []byte) {
		dir := t.TempDir()
		for name, b := range map[string][]byte{Events: events, Records: records, Proofs: proofs} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		v := &verifier{dir: dir, format: 1, rep: &Report{}, batches: map[uint64][]known{}}
		if v.events() == nil && v.proofs() == nil && v.rep.Proved > 0 {
			t.Error("proved without a checkpoint")
		}
	})
}
