package interpret

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// TestTailWalked looks names up in an enriched tail that was read as a whole, as for a
// record's body, and in one that was not, as for one of its values.
func TestTailWalked(t *testing.T) {
	pieces := []string{
		"UID=", "AUID=", "uid=", "ſUID=", "SADDR=", "\"", "\"root\"", "root", "domain users", " ", " ", "{ ", " }", "'", "=",
		"UID=\"x\" ", "GID=\"domain users@example.com\" ", "SADDR={ saddr_fam=local path=/UID=x } ", "unknown(1)",
	}
	r := rand.New(rand.NewPCG(need.Seed(t), 6))
	in, found := New(Config{}), 0
	for range need.Rounds(20_000, 4_000) {
		var tail []byte
		for range r.IntN(10) {
			tail = append(tail, pieces[r.IntN(len(pieces))]...)
		}
		rec := &record.Record{Enriched: tail}
		one, all := in.callOf(rec), in.callOf(rec)
		in.walkTail(rec, &all)
		for _, name := range []string{"uid", "auid", "gid", "saddr", "suid", "SUID", "ſuid", ""} {
			want, ok := one.tailValue(rec, []byte(name))
			got, has := all.tailValue(rec, []byte(name))
			if d := cmp.Diff(want, got); ok != has || ok && d != "" {
				t.Fatalf("%q of %q: %v alone, %v of all (-alone +of all)\n%s", name, tail, ok, has, d)
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
