"""Takes a picture of the page that `examples/run.sh --page` writes, in headless Chromium."""
import argparse
import pathlib
import subprocess
import tempfile

from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", help="page.html")
    parser.add_argument("picture", help="the PNG to write")
    parser.add_argument("view", help="layer=L&head=H&token=T, as the page's address has it")
    parser.add_argument("--height", type=int, default=1480, help="in pixels; it is 1200 wide")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        shot = pathlib.Path(folder) / "shot.png"
        subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                        f"--user-data-dir={folder}", "--virtual-time-budget=10000", f"--screenshot={shot}",
                        f"--window-size=1200,{arguments.height}",
                        f"{pathlib.Path(arguments.page).resolve().as_uri()}#{arguments.view}"],
                       check=True, stderr=subprocess.DEVNULL)
        Image.open(shot).convert("RGB").quantize(256).save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()
