package intake

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseNames(t *testing.T) {
	n, err := parseNames("h", "# the fleet\n\n10.0.0.1 web1.example.net web1 # rack 3\n2001:db8::1\tweb2\n::ffff:10.0.0.2 web3\n10.0.0.1 other\r\nfe80::1%eth0 link\n")
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.0.0.1": "web1.example.net", "::ffff:10.0.0.1": "web1.example.net", "2001:db8::1": "web2", "10.0.0.2": "web3", "fe80::1%eth7": "link", "10.0.0.3": "",
	} {
		if got := n.Of(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is %q, want %q", addr, got, want)
		}
	}
	_, err = parseNames("h", "10.0.0.1\nweb1 10.0.0.1\n\n10.0.0.4 a\x01b\n10.0.0.5 "+strings.Repeat("x", 256)+"\n")
	want := "h:1: 10.0.0.1 has no name\nh:2: \"web1\" is not an address\nh:4: \"a\\x01b\" is not a name\nh:5: "
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
}
