package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// MakeDir makes a directory that a disk is behind.
func MakeDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "run-")
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	onDisk, err := IsDisk(dir)
	if err == nil && !onDisk {
		err = fmt.Errorf("%s is in memory, where a sync costs nothing: name a directory on a disk with -dir", parent)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(dir))
	}
	return dir, nil
}
