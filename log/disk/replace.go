package disk

import (
	"errors"
	"os"
	"path/filepath"
)

// ReplaceFile writes a small file so that its name leads to all of the old text or all
// of the new one, whenever the power is cut, and to the new one for good when it
// returns nil. Only its owner may read it. It is for one caller at a time; after an
// error the old file is there, or the new one.
func ReplaceFile(path string, text []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
