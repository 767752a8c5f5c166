package authority

import (
	"errors"
	"fmt"
	"slices"
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

// An index does not grow for ever: beyond so many entries those that expired longest ago go, and none by a clock that
// only the latest few were issued by.
func TestIndexIsBounded(t *testing.T) {
	clock := noon
	ca := newAuthority(t, fsys.OS, t.TempDir())
	ca.cfg.Now = func() time.Time { return clock }
	list := make([]Entry, mostListed)
	for i := range list {
		at := noon.Add(time.Duration(i-mostListed) * time.Minute)
		list[i] = Entry{Serial: fmt.Sprintf("%08x", i), Fingerprint: "00", Name: "web1", NotBefore: at, NotAfter: at.Add(time.Hour), Roles: pki.Send}
	}
	list[7].Name, list[7].NotAfter = "db1", noon.Add(ninety)
	if err := ca.writeIndex(list); err != nil {
		t.Fatal(err)
	}
	clock = noon.Add(5 * 365 * 24 * time.Hour) // by mistake: nothing is known to have expired of what was issued yesterday
	if _, err := ca.Issue(t.Context(), request("web2"), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	clock = noon
	if _, err := ca.Issue(t.Context(), request("web3"), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	got, err := ca.List()
	if err != nil || len(got) > mostListed || len(got) < mostListed/2 {
		t.Fatal(len(got), err)
	}
	if got[0].Name != "db1" || got[len(got)-2].Name != "web2" || got[len(got)-1].Name != "web3" {
		t.Errorf("%v … %v", got[0], got[len(got)-1])
	}
	for _, e := range list {
		if noon.Sub(e.NotAfter) < keepExpired && !slices.Contains(got, e) {
			t.Fatalf("%v is gone", e)
		}
	}
	if now, _, err := ca.Revoke(t.Context(), "db1"); err != nil || len(now) != 1 {
		t.Error(now, err)
	}
}
