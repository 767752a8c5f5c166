package authority

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

// A host whose certificates live for an hour renews them as often as that takes, all day; who
// has stolen the key of a long one gets few of them.
func TestShortLivesAreRenewed(t *testing.T) {
	clock := noon
	ca := newAuthority(t, fsys.OS, t.TempDir())
	ca.cfg.Now = func() time.Time { return clock }
	key, _, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, life := range []time.Duration{time.Hour, 90 * 24 * time.Hour} {
		r := request("web" + life.String() + ".example.com")
		r.Name = strings.ToLower(r.Name)
		r.Life = life
		token, err := ca.NewToken(t.Context(), r, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.Redeem(t.Context(), token.Reveal(), csrOf(t, key, r.Name))
		if err != nil {
			t.Fatal(err)
		}
		end := clock.Add(24*time.Hour + time.Minute)
		renewed := 0
		for life <= time.Hour && clock.Before(end) && renewed < 100 {
			clock = clock.Add(max(cert.NotAfter.Sub(cert.NotBefore)*2/3-skew, time.Minute))
			if cert, err = ca.Renew(t.Context(), cert, csrOf(t, key, r.Name)); err != nil {
				t.Fatalf("a life of %v, after %d renewals: %v", life, renewed, err)
			}
			renewed++
		}
		for range maxRenewals + int(96*time.Hour/life) + 1 {
			if _, err = ca.Renew(t.Context(), cert, csrOf(t, key, r.Name)); err != nil {
				break
			}
		}
		if !errors.Is(err, ErrRenew) {
			t.Errorf("a life of %v: nothing bounds its renewals: %v", life, err)
		}
	}
}
