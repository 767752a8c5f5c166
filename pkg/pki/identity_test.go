package pki

import (
	"crypto/x509"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for given, want := range map[string]string{
		"web1": "web1", "WEB1.Example.COM.": "web1.example.com", "a_b-c": "a_b-c", "7": "7",
	} {
		if got, err := CheckName(given); err != nil || got != want {
			t.Errorf("%q: %q, %v", given, got, err)
		}
	}
	for given, want := range map[string]string{
		"": "empty", ".": "empty", "*": "wildcard", "*.example.com": "wildcard", "a..b": "empty part", "-a": "begins or ends", "a-.b": "begins or ends",
		"a/b": `'/'`, "a b": `' '`, "ä": "in it", "10.0.0.1": "address", strings.Repeat("a.", 127) + "aa": "are the most", strings.Repeat("a", 64): "63", "a\x00": "in it", "../x": "empty part",
	} {
		if got, err := CheckName(given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want %q", given, got, err, want)
		}
	}
}

// TestIdentities has what certificates say and who that is.
func TestIdentities(t *testing.T) {
	ca := newCA(t, "fleet CA")
	more := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, names...) }
	}
	prefix := Rules{SPIFFEPrefix: "spiffe://Example.org/host/"}
	for name, c := range map[string]struct {
		cert  issued
		rules Rules
		want  string
		roles Roles
		wrong string
	}{
		"one name":           {cert: ca.issue("Web1.Example.com"), want: "web1.example.com", roles: Send},
		"the first of three": {cert: ca.issue("web1", more("web1.example.com", "*.example.com")), want: "web1", roles: Send},
		"SPIFFE":             {cert: ca.issue("web1", uris(t, "https://x/", "spiffe://Example.org/ns/a/sa/Web")), want: "spiffe://example.org/ns/a/sa/Web", roles: Send},
		"SPIFFE, prefix":     {cert: ca.issue("x", uris(t, "spiffe://example.org/host/WEB1")), rules: prefix, want: "web1", roles: Send},
		"SPIFFE, elsewhere":  {cert: ca.issue("x", uris(t, "spiffe://example.com/host/web1")), rules: prefix, want: "spiffe://example.com/host/web1", roles: Send},
		"SPIFFE, two parts":  {cert: ca.issue("x", uris(t, "spiffe://example.org/host/a/web1")), rules: prefix, wrong: "no host name behind"},
		"SPIFFE, query":      {cert: ca.issue("x", uris(t, "spiffe://example.org/web1?a=b")), wrong: "is not spiffe://DOMAIN/PATH"},
		"SPIFFE, no path":    {cert: ca.issue("x", uris(t, "spiffe://example.org")), wrong: "is not spiffe://DOMAIN/PATH"},
		"SPIFFE, dots":       {cert: ca.issue("x", uris(t, "spiffe://example.org/a/../web1")), wrong: "dots only"},
		"SPIFFE, odd byte":   {cert: ca.issue("x", uris(t, "spiffe://example.org/a%2fb")), wrong: "in it"},
		"SPIFFE, long":       {cert: ca.issue("x", uris(t, "spiffe://example.org/"+strings.Repeat("a", 250))), wrong: "are the most"},
		"roles":              {cert: ca.issue("web1", units("Sales", "auditfleet:role=read", "auditfleet:role=admin,read")), want: "web1", roles: Read | Admin},
		"readers say":        {cert: ca.issue("web1", units("auditfleet:role=read")), rules: Rules{Readers: []string{"aud*"}}, wrong: "may do nothing here"},
		"a reader":           {cert: ca.issue("audit1", units("auditfleet:role=send")), rules: Rules{Readers: []string{"aud*"}}, want: "audit1", roles: Send | Read},
		"senders say":        {cert: ca.issue("db1"), rules: Rules{Senders: []string{"WEB?", "web*.example.com"}}, wrong: `names the roles "none"`},
		"a sender":           {cert: ca.issue("web1"), rules: Rules{Senders: []string{"WEB?"}}, want: "web1", roles: Send},
		"an admin":           {cert: ca.issue("ops"), rules: Rules{Senders: []string{"web*"}, Admins: []string{"ops"}}, want: "ops", roles: Admin},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := newFiles(t, ca.issue("c"), ca.cert).config()
			cfg.Rules = c.rules
			trust := open(t, cfg)
			id, err := trust.current.Load().identify([]*x509.Certificate{c.cert.cert}, noon)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("%v, want %q", err, c.wrong)
				}
				return
			}
			if err != nil || id.Name != c.want || id.Roles != c.roles {
				t.Errorf("%q %s, %v; want %q %s", id.Name, id.Roles, err, c.want, c.roles)
			}
			if id.Fingerprint != Fingerprint(c.cert.cert) || id.Serial != Serial(c.cert.cert.SerialNumber) || !id.NotAfter.Equal(c.cert.cert.NotAfter) {
				t.Errorf("%+v", id)
			}
		})
	}
}

func TestRules(t *testing.T) {
	for _, r := range []Rules{{Senders: []string{""}}, {Readers: []string{"a,b"}}, {Admins: []string{"a b"}}, {SPIFFEPrefix: "spiffe://a"}, {SPIFFEPrefix: "https://a/"}, {SPIFFEPrefix: "spiffe:///a/"}} {
		if _, err := r.clean(); err == nil {
			t.Errorf("%+v is taken", r)
		}
	}
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "web1", true}, {"web?", "web1", true}, {"web?", "web", false}, {"web*", "web", true}, {"*.example.com", "a.b.example.com", true},
		{"*.example.com", "example.com", false}, {"a*b*c", "axxbxxc", true}, {"a*b*c", "axxbxx", false}, {"", "a", false}, {"web1", "web11", false}, {"**1", "web1", true},
	} {
		if got := matches(c.pattern, c.name); got != c.want {
			t.Errorf("%q of %q: %v", c.pattern, c.name, got)
		}
	}
	for _, text := range []string{"send", "read", "admin", "send,read", "send, admin", "send,read,admin"} {
		r, err := ParseRoles(text)
		if err != nil || r.String() != strings.ReplaceAll(text, " ", "") {
			t.Errorf("%q: %v, %v", text, r, err)
		}
	}
	for _, text := range []string{"", "send,", "root", "Send"} {
		if r, err := ParseRoles(text); err == nil {
			t.Errorf("%q: %v", text, r)
		}
	}
}

func TestDenyList(t *testing.T) {
	ca := newCA(t, "fleet CA")
	c := ca.issue("web1").cert // serial 1001
	for text, want := range map[string]bool{
		"": false, "web2": false, "web1": true, "WEB1.": true, " web1 # gone\r\n": true, "#web1": false, "1001": true, "10:01": true, "0x1001": true, "001001": true,
		"1002": false, Fingerprint(c): true, strings.ToUpper(Fingerprint(c)): true, "w*1": true, "*x*": false, "x\ny\nweb1": true,
	} {
		d, err := parseDenyList("f", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if _, got := d.find("Web1", []*x509.Certificate{c}); got != want {
			t.Errorf("%q denies: %v", text, got)
		}
	}
	// Whichever of its names an administrator knows it by.
	several := ca.issue("a", func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "Web1.Example.com", "10-0-0-1.example.com") }, uris(t, "spiffe://example.org/web1")).cert
	for text, want := range map[string]bool{"web1.example.com": true, "a": true, "spiffe://example.org/web1": true, "10-*": true, "web1": false, "example.com": false} {
		d, err := parseDenyList("f", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if _, got := d.find("spiffe://example.org/web1", []*x509.Certificate{several}); got != want {
			t.Errorf("%q denies one of several names: %v", text, got)
		}
	}
	for text, want := range map[string]string{
		"a\nweb1 web2": "f:2: \"web1 web2\" has more than one word", strings.Repeat("a", 254): "f:1: a word of 254 bytes", "a\x00": "more than one word",
		strings.Repeat("a*\n", maxPattern+1): "with * or ?",
	} {
		if _, err := parseDenyList("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

// FuzzDenyList: whatever stands in a list, it is read or refused, and a name that stands on
// a line of its own is denied.
func FuzzDenyList(f *testing.F) {
	for _, s := range []string{"web1\n", "# x\n\nab:cd", "*?*?*", "a b", "00"} {
		f.Add([]byte(s), "web1")
	}
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		d, err := parseDenyList("f", data)
		if err == nil {
			d.find(name, nil)
		}
		name, err = CheckName(name)
		if err != nil {
			return
		}
		d, err = parseDenyList("f", append(append([]byte{}, "other\n"...), name...))
		if err != nil {
			t.Fatal(err)
		}
		if _, denied := d.find(name, nil); !denied {
			t.Fatalf("%q is not denied", name)
		}
	})
}
