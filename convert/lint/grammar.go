package lint

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func isUint(v string) error {
	for _, c := range []byte(v) {
		if c < '0' || c > '9' {
			return errors.New("is no decimal number")
		}
	}
	if _, err := strconv.ParseInt(v, 10, 64); err != nil {
		return errors.New("is no number that can be")
	}
	return nil
}

func isDigest(v string) error {
	if digest.Digest(v).Validate() != nil {
		return errors.New("is no digest")
	}
	return nil
}

// mediaType is RFC 6838's restricted names.
var mediaType = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$`)

func isMediaType(v string) error {
	if !mediaType.MatchString(v) {
		return errors.New("is no media type")
	}
	return nil
}

func isRole(v string) error {
	if !slices.Contains([]string{erofs.RoleDevice, erofs.RoleOverlayLower, erofs.RoleOverlayData}, v) {
		return errors.New("is no role")
	}
	return nil
}
