package manpage

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

const dir = "../../../deploy/man"

func pages(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(dir + "/*.[58]")
	if err != nil || len(all) < 14 {
		t.Fatalf("%v %v", all, err)
	}
	return all
}

// Every page has the sections a reader looks for.
func TestSections(t *testing.T) {
	for _, path := range pages(t) {
		p, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		wanted := Wanted
		if strings.HasSuffix(path, ".5") {
			wanted = []string{"NAME", "DESCRIPTION", "FILES", "EXAMPLES", "SEE ALSO"}
		}
		for _, s := range wanted {
			if !slices.Contains(p.Sections, s) {
				t.Errorf("%s has no section %s", path, s)
			}
		}
		if strings.HasSuffix(path, ".8") && len(p.Examples) == 0 {
			t.Errorf("%s has no example", path)
		}
	}
}

// mandoc finds nothing wrong in any page, and every page of ours that one refers to
// is there.
func TestLint(t *testing.T) {
	mandoc := need.Tool(t, "mandoc")
	for _, path := range pages(t) {
		out, err := exec.Command(mandoc, "-Tlint", "-Wwarning", path).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%v\n%s", err, out)
		}
		text, err := exec.Command("grep", "-h", "^.Xr \\(collector\\|forwarder\\)", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			w := strings.Fields(line)
			if !slices.Contains(pages(t), filepath.Join(dir, w[1]+"."+w[2])) {
				t.Errorf("%s refers to %s(%s), which there is not", path, w[1], w[2])
			}
		}
	}
}
