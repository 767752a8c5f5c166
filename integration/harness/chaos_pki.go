package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// chaosPKI issues certificates as an administrator does, by `collector ca`, and puts them to
// where the programs read them.
type chaosPKI struct {
	collector string // the program
	dir       string
	cas       []string // the folders of those that are trusted, the one that issues last
	made      int      // of CAs and certificates
	denied    string   // the deny list of the collectors
}

// party is a program with a certificate.
type party struct {
	name, ip string
	tls      string // folder of ca.crt, NAME.crt and NAME.key
	torn     bool   // one of its files is wrong just now: it can't be started
}

func (p *party) args() []string {
	base := filepath.Join(p.tls, p.name)
	return []string{"--tls-ca", filepath.Join(p.tls, "ca.crt"), "--tls-cert", base + ".crt", "--tls-key", base + ".key"}
}

// ca runs `collector ca`.
func (k *chaosPKI) ca(args ...string) error {
	r, err := Run(time.Minute, append([]string{k.collector, "ca"}, args...)...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("collector ca %v: exit %d: %s", args, r.Code, r.Stderr)
	}
	return err
}

// fresh returns a folder that is not there yet.
func (k *chaosPKI) fresh(what string) string {
	k.made++
	return filepath.Join(k.dir, fmt.Sprintf("%s%d", what, k.made))
}

// addCA makes one more CA, which is trusted and issues from now on.
func (k *chaosPKI) addCA() error {
	dir := k.fresh("ca")
	k.cas = append(k.cas, dir)
	return k.ca("init", "--dir", dir)
}

// trust gives parties the certificates of all CAs that are trusted.
func (k *chaosPKI) trust(all []*party) error {
	var bundle []byte
	for _, dir := range k.cas {
		b, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
		if err != nil {
			return err
		}
		bundle = append(bundle, b...)
	}
	for _, p := range all {
		if err := os.MkdirAll(p.tls, 0o700); err != nil {
			return err
		}
		if err := replace(filepath.Join(p.tls, "ca.crt"), bundle); err != nil {
			return err
		}
	}
	return nil
}

// issue gives a party another certificate, as the manual says.
func (k *chaosPKI) issue(p *party) error {
	out := k.fresh("issued")
	args := []string{"issue", p.name, "--dir", k.cas[len(k.cas)-1], "--out", out}
	if p.ip != "" {
		args = append(args, "--ip", p.ip)
	}
	if err := k.ca(args...); err != nil {
		return err
	}
	for _, ext := range []string{".key", ".crt"} {
		if err := os.Rename(filepath.Join(out, p.name+ext), filepath.Join(p.tls, p.name+ext)); err != nil {
			return err
		}
	}
	return nil
}

// revoke revokes all certificates of a party, and has the collectors know.
func (k *chaosPKI) revoke(p *party) error {
	for _, dir := range k.cas {
		list, err := os.ReadFile(filepath.Join(dir, "index"))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Contains(list, []byte("\t"+p.name+"\t")) {
			continue // it issued none
		}
		if err == nil {
			err = k.ca("revoke", p.name, "--dir", dir)
		}
		if err != nil {
			return err
		}
	}
	return k.deny()
}

// deny writes the deny list from those of the CAs.
func (k *chaosPKI) deny() error {
	list := []byte("# of all CAs\n")
	for _, dir := range k.cas {
		b, err := os.ReadFile(filepath.Join(dir, "revoked"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		list = append(list, b...)
	}
	return replace(k.denied, list)
}

// replace puts a file in place at once.
func replace(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
