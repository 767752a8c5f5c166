package need

import (
	"os"
	"syscall"
)

// Program writes a file that is then run. No process is started while it is open: a child that is between fork and exec
// would have it open for writing, too, and whoever runs the file then gets "text file busy" (golang.org/issue/22315).
func Program(path string, text []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, text, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // whatever the umask: others run it, too
}
