package clickhouse

import (
	"errors"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// A row that cannot be read is a collector of which no more is known than that it is there: half of it would be taken for its word.
func TestMemberOf(t *testing.T) {
	if m := memberOf("b", 5, `{"name":"west","stopped":true}`); m.Name != "west" || !m.Stopped || m.Store != "b" || m.At != 5 || m.Bad != nil {
		t.Errorf("%+v", m)
	}
	for _, data := range []string{"", "{", `{"name":"west","stopped":true,"started":"x"}`} {
		m := memberOf("b", 5, data)
		if !errors.Is(m.Bad, store.ErrDamaged) {
			t.Errorf("%q: %v", data, m.Bad)
		}
		if m.Bad = nil; m != (store.Member{Store: "b", At: 5}) {
			t.Errorf("%q: %+v", data, m)
		}
	}
}
