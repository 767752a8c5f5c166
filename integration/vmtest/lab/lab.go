// Package lab boots real Debian hosts under qemu's emulation, for the cases of
// integration/vmtest: a root tree made once (Debian's mirror, some minutes), images with
// our packages as installed made from it, guests with one driver over a virtio port. It
// needs root, Debian's tools and nothing of the network but that mirror; guests reach
// nobody but, where a case wires two of them, each other.
//
// A Lab serves any number of goroutines; a Guest is one goroutine's. Close ends what runs
// and removes what was made, but the cache; when the process dies, qemu dies with it.
package lab

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed tree.sh
var treeScript string

//go:embed image.sh
var imageScript string

// Config says where things are.
type Config struct {
	Cache    string    // Folder of root trees and images. By default CacheFolder.
	Packages string    // Folder of the .deb files under test.
	Root     string    // The module's root, for building the agent.
	Logs     string    // Folder that gets each guest's console, and what it was asked and when. By default neither is kept.
	Said     io.Writer // Gets a line for what takes minutes.
}

// CacheFolder is where trees and images are kept, unless AUDITFLEET_VMTEST_CACHE says another.
const CacheFolder = "/var/tmp/auditfleet-vmtest"

// Lab makes images and guests.
type Lab struct {
	config Config
	work   string // removed by Close
	agent  string
	lock   *os.File // that of the cache, held only while something is made

	mu     sync.Mutex // guards the two below
	guests []*Guest
	closed bool
	making sync.Mutex // one image at a time: the machine is small
}

// Open builds the agent and makes the folder for guests.
func Open(ctx context.Context, config Config) (*Lab, error) {
	cmd := exec.CommandContext(ctx, "sh", filepath.Join(config.Root, "integration/vmtest/missing.sh"))
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.New(strings.TrimSpace(string(said)))
	}
	if config.Cache == "" {
		config.Cache = os.Getenv("AUDITFLEET_VMTEST_CACHE")
	}
	if config.Cache == "" {
		config.Cache = CacheFolder
	}
	if err := os.MkdirAll(config.Cache, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(config.Cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "vmtest")
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	l := &Lab{config: config, work: work, lock: lock, agent: filepath.Join(work, "agent")}
	if err := l.Build(ctx, l.agent, "./integration/vmtest/agent", "amd64"); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Build compiles a program of this module for a guest.
func (l *Lab) Build(ctx context.Context, out, pkg, arch string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = l.config.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, said)
	}
	return nil
}

// Close ends every guest and removes what was made. It may be called again.
func (l *Lab) Close() error {
	l.mu.Lock()
	guests := l.guests
	l.guests, l.closed = nil, true
	l.mu.Unlock()
	for _, g := range guests {
		g.Kill()
	}
	_ = l.lock.Close()
	return os.RemoveAll(l.work)
}

// Folder makes a folder that Close removes.
func (l *Lab) Folder(name string) (string, error) {
	return os.MkdirTemp(l.work, name+"-")
}

// made returns the path of name in the cache, which make makes (at the path it is given)
// unless it is there. Other processes wait meanwhile.
func (l *Lab) made(ctx context.Context, name, what string, make func(path string) error) (string, error) {
	l.making.Lock()
	defer l.making.Unlock()
	if err := syscall.Flock(int(l.lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	defer func() { _ = syscall.Flock(int(l.lock.Fd()), syscall.LOCK_UN) }()
	path := filepath.Join(l.config.Cache, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if l.config.Said != nil {
		_, _ = fmt.Fprintln(l.config.Said, "vmtest: making", what)
	}
	begun := path + ".new"
	if err := os.RemoveAll(begun); err != nil {
		return "", err
	}
	if err := make(begun); err != nil {
		return "", errors.Join(fmt.Errorf("%s: %w", what, err), os.RemoveAll(begun))
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return path, os.Rename(begun, path)
}

// tree returns the folder with root, kernel and initrd.
func (l *Lab) tree(ctx context.Context) (string, error) {
	return l.made(ctx, "tree-"+hash([]byte(treeScript)), "a Debian 12, which takes some minutes, once", func(path string) error {
		return l.script(ctx, treeScript, path)
	})
}

// Image returns a disk with the packages of these names installed: "forwarder",
// "collector", "stock-names", and "stock", which is auditd with its plugins. prepare is
// then run in it, by chroot: what an administrator does that needs no boot.
func (l *Lab) Image(ctx context.Context, prepare string, names ...string) (string, error) {
	tree, err := l.tree(ctx)
	if err != nil {
		return "", err
	}
	agent, err := os.ReadFile(l.agent)
	if err != nil {
		return "", err
	}
	parts := [][]byte{[]byte(filepath.Base(tree)), []byte(imageScript), agent, []byte(prepare)}
	var debs []string
	for _, name := range names {
		if name == "stock" {
			debs, parts = append(debs, name), append(parts, []byte(name))
			continue
		}
		found, err := filepath.Glob(filepath.Join(l.config.Packages, "auditfleet-"+name+"_*.deb"))
		if err != nil || len(found) != 1 {
			return "", fmt.Errorf("%s has %d packages auditfleet-%s, not 1 (make packages ARCHES=amd64)", l.config.Packages, len(found), name)
		}
		bytes, err := os.ReadFile(found[0])
		if err != nil {
			return "", err
		}
		debs, parts = append(debs, found[0]), append(parts, bytes)
	}
	label := strings.Join(append([]string{"image"}, names...), "-")
	return l.made(ctx, label+"-"+hash(parts...), "a disk with "+strings.Join(names, ", "), func(path string) error {
		l.forget(label)
		return l.script(ctx, imageScript, append([]string{tree, l.agent, path, prepare}, debs...)...)
	})
}

// forget removes images of the same packages that were made a day ago: those of older builds.
func (l *Lab) forget(label string) {
	old, _ := filepath.Glob(filepath.Join(l.config.Cache, label+"-????????????????"))
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.Remove(path)
		}
	}
}

// script runs one of the scripts in mount and PID namespaces of its own, which take its
// mounts and processes with them.
func (l *Lab) script(ctx context.Context, text string, args ...string) error {
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-s", "--"}, args...)...)
	cmd.Stdin = strings.NewReader(text)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, last(said, 2000))
	}
	return nil
}

func hash(parts ...[]byte) string {
	sum := sha256.New()
	for _, part := range parts {
		_, _ = fmt.Fprintf(sum, "%d ", len(part))
		sum.Write(part)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}

func last(text []byte, n int) []byte { return text[max(0, len(text)-n):] }
