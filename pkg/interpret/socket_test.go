package interpret

import "testing"

// TestSocket reads the address of every family that has one here, cut ones too.
func TestSocket(t *testing.T) {
	for hex, want := range map[string][3]string{ // family, address and all
		"020001BBC6336419000000000000000000": {"inet", "198.51.100.25", "198.51.100.25:443"},
		"020001BBC6336419":                   {"inet", "198.51.100.25", "198.51.100.25:443"},
		"020001BB":                           {"inet", "", "inet"},
		"0A0001BB0000000020010DB800000000000000000000004200000000": {"inet6", "2001:db8::42", "[2001:db8::42]:443"},
		"0a00003500000000fe80000000000000000000000000000102000000": {"inet6", "fe80::1%2", "[fe80::1%2]:53"},
		"0A0000350000000000000000000000000000FFFF7F00000100000000": {"inet6", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]:53"},
		"01002F72756E2F612062002F7072657669":                       {"local", "/run/a b", "/run/a b"},
		"01000061627374726163742D6E616D65":                         {"local", "@abstract-name", "@abstract-name"},
		"0100":                                                     {"local", "", "local"},
		"10000000390500000100000000":                               {"", "", ""}, // half a byte more is cut below
		"100000003905000001000000":                                 {"netlink", "1337", "netlink 1337"},
		"1100000302000000010000060011223344550000":                 {"packet", "00:11:22:33:44:55", "packet 00:11:22:33:44:55 on interface 2"},
		"28000000000400000200000000000000":                         {"vsock", "2", "vsock 2:1024"},
		"0000":                                                     {"", "", ""},
		"FF7F00":                                                   {"", "", "unknown-family(32767)"},
		"26006869":                                                 {"alg", "", "alg"},
	} {
		a, ok := ParseSocket([]byte(hex))
		if !ok {
			t.Errorf("%s: no address", hex)
			continue
		}
		if want == [3]string{} {
			continue
		}
		got := [3]string{a.Family(), string(a.AppendAddress(nil)), string(a.Append(nil))}
		if got != want {
			t.Errorf("%s: %q, want %q", hex, got, want)
		}
	}
	for _, v := range []string{"", "0", "02", "(none)", "0200zz", "192.0.2.1"} {
		if a, ok := ParseSocket([]byte(v)); ok {
			t.Errorf("%q is %q", v, a.Append(nil))
		}
	}
}

// FuzzSocket reads whatever stands in a record.
func FuzzSocket(f *testing.F) {
	f.Add([]byte("0A0001BB0000000020010DB8"))
	f.Add([]byte("1100000302000000010000FF0011"))
	f.Fuzz(func(t *testing.T, v []byte) {
		if a, ok := ParseSocket(v); ok && len(a.Append(nil)) == 0 {
			t.Errorf("%q is nothing", v)
		}
	})
}
