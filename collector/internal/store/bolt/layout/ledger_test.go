package layout

import (
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
)

// What came on a day is read as it was written, and no key or value that is cut or longer is taken for one, whatever its checksum.
func TestReceived(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"", "web1"} {
		r := Received{Day: 20779, Host: host, Start: 20778 * ledger.Day, Records: 7, Events: 3, From: 20778*ledger.Day + 5*ledger.Hour, To: 20779 * ledger.Day}
		key, value := r.Encode()
		if got, ok := DecodeReceived(key, value); !ok || got != r {
			t.Errorf("%q: %+v, %v", host, got, ok)
		}
		body, err := CutSum(key, value)
		if err != nil {
			t.Fatal(err)
		}
		for n := range key {
			if _, ok := DecodeReceived(key[:n], AddSum(key[:n], append([]byte(nil), body...))); ok {
				t.Errorf("%q: a key of %d bytes of %d", host, n, len(key))
			}
		}
		for n := range body {
			if _, ok := DecodeReceived(key, AddSum(key, append([]byte(nil), body[:n]...))); ok {
				t.Errorf("%q: a value of %d bytes of %d", host, n, len(body))
			}
		}
		if _, ok := DecodeReceived(key, AddSum(key, append(append([]byte(nil), body...), 0))); ok {
			t.Errorf("%q: a longer value", host)
		}
	}
}
