package fsys

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
)

// What a filesystem keeps for root is not free: space_left and admin_space_left are
// taken, as by the stock daemon, when everybody else's writes are about to fail.
func TestSpaceIsWithoutWhatIsReserved(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	for _, err := range []error{os.WriteFile(image, nil, 0o600), os.Truncate(image, 16<<20), os.Mkdir(mount, 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-m", "50", image).CombinedOutput(); err != nil {
		need.Missing(t, "mkfs.ext4: "+err.Error()+": "+string(out))
	}
	if out, err := exec.Command("mount", "-o", "loop", image, mount).CombinedOutput(); err != nil {
		need.Missing(t, "mount: "+err.Error()+": "+string(out))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	free, total, err := OS.Space(mount)
	if err != nil {
		t.Fatal(err)
	}
	if total < 8<<20 || free == 0 || free > total/2 {
		t.Errorf("%d of %d bytes free, half of which are root's", free, total)
	}
}
