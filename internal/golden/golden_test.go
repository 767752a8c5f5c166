package golden

import (
	"os"
	"path/filepath"
	"testing"
)

// With -update the part is written again and the rest stays; then it compares equal.
func TestComparePart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page")
	const head, tail = "head\n# BEGIN list (made)\n", "# END list\ntail\n"
	if err := os.WriteFile(file, []byte(head+"old\n"+tail), 0o600); err != nil {
		t.Fatal(err)
	}
	was := *update
	defer func() { *update = was }()
	for _, got := range []string{"new\nand more\n", ""} {
		*update = true
		ComparePart(t, file, "list", got)
		*update = false
		ComparePart(t, file, "list", got)
		if text, err := os.ReadFile(file); err != nil || string(text) != head+got+tail {
			t.Errorf("%q, %v", text, err)
		}
	}
}
