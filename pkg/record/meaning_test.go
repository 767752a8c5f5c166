package record

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestMeaning compares it with a walk over all fields of tails that hide names in values.
func TestMeaning(t *testing.T) {
	rng := rand.New(rand.NewPCG(need.Seed(t), 4))
	pieces := []string{
		"UID=", "AUID=", "OLD-AUID=", "GID=", "uid=", "SADDR=", "\"", "\"", "\"root\"", "root", "domain users", " ", " ", " ", "{ ", " }", "'", "=", "a", "\\",
		"UID=\"x\" ", "GID=\"domain users@example.com\" ", "SADDR={ saddr_fam=local path=/UID=x UID=\"root\" } ", "unknown(1)",
	}
	found := 0
	for range need.Rounds(20_000, 4_000) {
		var tail []byte
		for range rng.IntN(12) {
			tail = append(tail, pieces[rng.IntN(len(pieces))]...)
		}
		r := &Record{Enriched: tail}
		for _, name := range []string{"uid", "auid", "gid", "old-auid", "saddr"} {
			fields := r.EnrichedFields()
			want, ok := fields.Next()
			for ok && !bytes.EqualFold(want.Name, []byte(name)) {
				want, ok = fields.Next()
			}
			got, has := r.Meaning([]byte(name))
			if d := cmp.Diff(want, got); has != ok || d != "" {
				t.Fatalf("%s of %q: %v, want %v (-want +got)\n%s", name, tail, has, ok, d)
			}
			if ok {
				found++
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d were there", found)
	}
}
