# The page and the commands, on a CPU:
#   docker build -t becalm .
#   docker run --rm -it --network host becalm                            the page; only this computer can reach it
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" becalm denoise scan.laz      a command on files of this folder
# Where containers cannot use the computer's own network (Docker Desktop), give the page's port and a secret in place of it:
#   docker run --rm -it -p 127.0.0.1:8642:8642 becalm serve --host 0.0.0.0 --token A-SECRET-OF-16-LETTERS
FROM python:3.12-slim AS build
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source && cp /source/constraints.txt /wheels

FROM python:3.12-slim
RUN useradd --create-home becalm && mkdir /data && chown becalm /data
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c /wheels/constraints.txt torch --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -c /wheels/constraints.txt "$(ls /wheels/*.whl)[all]"
USER becalm
WORKDIR /data
ENTRYPOINT ["becalm"]
CMD ["serve"]
