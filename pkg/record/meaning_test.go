package record

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
)

// randomTail makes an enriched tail that hides names in values.
func randomTail(rng *rand.Rand) (tail []byte) {
	pieces := []string{
		"UID=", "AUID=", "OLD-AUID=", "GID=", "uid=", "SADDR=", "\"", "\"", "\"root\"", "root", "domain users", " ", " ", " ", "{ ", " }", "'", "=", "a", "\\",
		"UID=\"x\" ", "GID=\"domain users@example.com\" ", "SADDR={ saddr_fam=local path=/UID=x UID=\"root\" } ", "unknown(1)",
	}
	for range rng.IntN(12) {
		tail = append(tail, pieces[rng.IntN(len(pieces))]...)
	}
	return tail
}

// meaningModel reads the value at pos of a tail a byte at a time, and returns where it ends.
func meaningModel(b []byte, field Field, pos int) (Field, int) {
	if pos < len(b) {
		switch quote := b[pos]; quote {
		case '"', '\'':
			for i := pos + 1; i < len(b) && (b[i] != quote || !opensMeaning(b, i)); i++ {
				if b[i] == quote && endsMeaning(b, i+1) {
					field.Value, field.Quote = b[pos+1:i:i], quote
					return field, i + 1
				}
			}
		case '{':
			if i := bytes.IndexByte(b[pos:], '}'); i >= 0 {
				field.Value = b[pos : pos+i+1 : pos+i+1]
				return field, pos + i + 1
			}
		}
	}
	end := pos
	for !endsMeaning(b, end) {
		end++
	}
	field.Value = b[pos:end:end]
	return field, end
}

// TestMeaningEnds reads values of tails that hide names in values.
func TestMeaningEnds(t *testing.T) {
	rng := rand.New(rand.NewPCG(need.Seed(t), 4))
	found := 0
	for range need.Rounds(50_000, 10_000) {
		tail := randomTail(rng)
		for pos := 1; pos <= len(tail); pos++ {
			if tail[pos-1] != '=' {
				continue
			}
			found++
			fields := Fields{buf: tail, mode: enriched}
			got := fields.meaning(Field{Name: []byte("x")}, pos)
			want, end := meaningModel(tail, Field{Name: []byte("x")}, pos)
			if d := cmp.Diff(want, got); d != "" || fields.pos != end {
				t.Fatalf("at %d of %q: ends at %d, want %d (-want +got)\n%s", pos, tail, fields.pos, end, d)
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d values were read", found)
	}
}

// TestMeaning compares it with a walk over all fields of tails that hide names in values.
func TestMeaning(t *testing.T) {
	rng := rand.New(rand.NewPCG(need.Seed(t), 4))
	found := 0
	for range need.Rounds(20_000, 4_000) {
		tail := randomTail(rng)
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
